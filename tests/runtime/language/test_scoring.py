from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from edge_prompt.base.errors import InputError
from edge_prompt_runtime import Runtime
from tests.conftest import MakePrompt

LABELS = ["oil", "the oil price", "rose", "ministers"]


def test_scores_are_those_of_the_labels_tokens_in_torch(language: Runtime, tiny_language: Path) -> None:
    network: Any = AutoModelForCausalLM.from_pretrained(tiny_language)
    tokenizer = AutoTokenizer.from_pretrained(tiny_language)
    text = tokenizer("states of the meeting")["input_ids"]
    reference = []
    for label in LABELS:
        tokens = [*tokenizer(label, add_special_tokens=False)["input_ids"], 0]
        with torch.no_grad():
            logprobs = network(torch.tensor([[*text, *tokens]])).logits[0].log_softmax(-1)
        reference.append(sum(float(logprobs[len(text) - 1 + i, token]) for i, token in enumerate(tokens)))
    found = language.classify("states of the meeting", labels=LABELS)
    wanted = np.exp(reference) / np.exp(reference).sum()
    np.testing.assert_allclose([found.scores[label] for label in LABELS], wanted, rtol=1e-3)
    assert found.label == LABELS[int(np.argmax(reference))]


def test_the_labels_of_a_task_are_those_of_its_card(
    language: Runtime, make_prompt: MakePrompt, tiny_language_bundle: Path
) -> None:
    language.load("topics", make_prompt("topics", bundle=tiny_language_bundle, labels=("oil", "rose", "states")))
    answers = language.classify(["the oil", "rose the price"], task="topics")
    assert [list(answer.scores) for answer in answers] == [["oil", "rose", "states"]] * 2
    assert answers[0] == language.classify("the oil", task="topics")


@pytest.mark.parametrize("labels", [None, [], ["a", "a"], ["a", ""], ["a", 3]])
def test_no_labels_or_bad_ones_are_one_sentence(language: Runtime, labels: Any) -> None:
    with pytest.raises(InputError, match="the base model has the labels"):
        language.classify("the oil", labels=labels)


def test_labels_are_refused_where_a_head_has_its_own(tiny_classifier_bundle: Path) -> None:
    with pytest.raises(InputError, match="labels were passed to a backbone that classifies with a head"):
        Runtime(tiny_classifier_bundle).classify("w1", labels=["a", "b"])
