from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from edge_prompt_export.modalities.language.backbone import LanguageBackbone
from edge_prompt_export.modalities.language.examples import CompletionExamples, TokenizedCompletion
from edge_prompt_export.modalities.language.initialise import prompt_of_text
from edge_prompt_export.modalities.language.metrics import language_metrics
from edge_prompt_export.modalities.language.network import ConditionedCausalLM
from edge_prompt_export.modalities.language.prompted_network import PromptedLanguageModel
from edge_prompt_runtime import Runtime

ROWS = [
    TokenizedCompletion([5, 6, 7, 8, 0], 3),
    TokenizedCompletion([9, 4, 0], 2),
    TokenizedCompletion([11, 12, 13, 14, 15, 16, 0], 2),
]
LABELS = [[8, 9, 0], [4, 0], [8, 0]]


@pytest.fixture
def module(loaded_language: LanguageBackbone) -> ConditionedCausalLM:
    return loaded_language.module


def prompted(module: ConditionedCausalLM, kind: str) -> PromptedLanguageModel:
    prompt = torch.zeros(0) if not kind else 0.5 * module.example_prompt(kind, 4, seed=1)
    return PromptedLanguageModel(module, kind, prompt)


def alone(model: PromptedLanguageModel, row: TokenizedCompletion) -> Tensor:
    """The logits of one row from the exported module, without cached keys and values."""
    module = model.backbone
    ids = torch.tensor([row.input_ids[:-1]])
    prompts = module.as_input(model._kind, model.prompt) if model._kind else {}
    inputs = module.graph_inputs({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, prompts)
    logits: Tensor = module(**inputs)[0][0, -row.completion :]
    return logits


@pytest.mark.parametrize("kind", ["", "soft", "prefix"])
def test_a_batch_gives_each_row_what_it_gives_alone(kind: str, module: ConditionedCausalLM) -> None:
    model = prompted(module, kind)
    (batch,) = CompletionExamples(ROWS).ordered(3)
    with torch.no_grad():
        found = model(batch)
        wanted = torch.cat([alone(model, row) for row in sorted(ROWS, key=lambda row: len(row.input_ids))])
    assert torch.allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize("kind", ["soft", "prefix"])
def test_gradients_are_those_of_the_whole_sequence(kind: str, module: ConditionedCausalLM) -> None:
    gradients = []
    for compiled in (True, False):
        model = prompted(module, kind)
        (batch,) = CompletionExamples(ROWS[:1]).ordered(1)
        logits = model(batch) if compiled else alone(model, ROWS[0])
        torch.nn.functional.cross_entropy(logits, batch.labels).backward()  # type: ignore[no-untyped-call]
        assert model.prompt.grad is not None
        gradients.append(model.prompt.grad)
    assert gradients[0].abs().max() > 1e-3
    assert torch.allclose(gradients[0], gradients[1], atol=1e-4)


@pytest.mark.parametrize("kind", ["", "soft", "prefix"])
def test_labels_are_scored_as_their_tokens_follow(kind: str, module: ConditionedCausalLM) -> None:
    model = prompted(module, kind)
    prompts = [[5, 6], [9, 10, 11]]
    with torch.no_grad():
        found = model.label_scores(prompts, LABELS)
        for row, prompt in enumerate(prompts):
            for column, label in enumerate(LABELS):
                logits = alone(model, TokenizedCompletion([*prompt, *label], len(label))).log_softmax(-1)
                wanted = sum(float(logits[place, token]) for place, token in enumerate(label))
                assert float(found[row, column]) == pytest.approx(wanted, abs=1e-3)


def test_labels_of_one_token_are_scored(module: ConditionedCausalLM) -> None:
    with torch.no_grad():
        scores = prompted(module, "soft").label_scores([[5, 6]], [[8], [4]])
    assert scores.shape == (1, 2)


def test_exact_match_is_what_greedy_generation_says(
    module: ConditionedCausalLM, tiny_language_bundle: Path, engine: str
) -> None:
    """The network's own continuation is an exact match; with one token changed, it is not."""
    runtime = Runtime(tiny_language_bundle, engine)
    said = list(runtime.generate([5, 6], max_new_tokens=4).tokens)  # type: ignore[union-attr]
    other = [*said[:-1], (said[-1] + 1) % 300]
    rows = [TokenizedCompletion([5, 6, *completion], 4) for completion in (said, other)]
    figures = language_metrics(prompted(module, ""), CompletionExamples(rows), "fp32")
    assert (figures.right, figures.measure) == (0.5, "exact match")
    assert figures.loss is not None
    assert figures.loss > 0


def test_accuracy_is_that_of_the_likeliest_label(module: ConditionedCausalLM) -> None:
    model = prompted(module, "prefix")
    with torch.no_grad():
        best = model.label_scores([[5, 6], [9, 10, 11]], LABELS).argmax(1).tolist()
    rows = [
        TokenizedCompletion([*prompt, *LABELS[label]], len(LABELS[label]), label)
        for prompt, label in (([5, 6], best[0]), ([9, 10, 11], (best[1] + 1) % 3))
    ]
    figures = language_metrics(model, CompletionExamples(rows, LABELS), "fp32")
    assert (figures.right, figures.measure) == (0.5, "accuracy")


@pytest.mark.parametrize("kind", ["soft", "prefix"])
def test_an_untuned_prompt_of_text_is_that_text(kind: str, module: ConditionedCausalLM) -> None:
    """A prompt initialised from tokens gives the network's outputs after these tokens."""
    ids = [21, 22, 23]
    model = PromptedLanguageModel(module, kind, prompt_of_text(kind, module, ids))
    (batch,) = CompletionExamples([TokenizedCompletion([5, 6, 7, 0], 2)]).ordered(1)
    (whole,) = CompletionExamples([TokenizedCompletion([*ids, 5, 6, 7, 0], 2)]).ordered(1)
    with torch.no_grad():
        found, wanted = model(batch), prompted(module, "")(whole)
    assert np.allclose(found, wanted, atol=1e-5)
