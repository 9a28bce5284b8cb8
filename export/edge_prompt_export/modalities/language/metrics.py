"""Validation metrics of a language model: its loss, and its accuracy or exact match."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from edge_prompt_export.modalities.language.examples import CompletionExamples
from edge_prompt_export.modalities.language.prompted_network import PromptedLanguageModel
from edge_prompt_export.training.metrics import Metrics, measuring

_BATCH_SIZE = 16


def language_metrics(module: PromptedLanguageModel, examples: CompletionExamples, precision: str) -> Metrics:
    """The loss of a language model, with its accuracy on labels or its exact match on free completions.

    Greedy decoding produces the completion exactly if the most likely token is correct at every position.
    """
    with measuring(module, precision):
        return _of_labels(module, examples) if examples.label_tokens else _of_completions(module, examples)


def _of_completions(module: PromptedLanguageModel, examples: CompletionExamples) -> Metrics:
    loss, tokens, right = 0.0, 0, 0
    for batch in examples.ordered(_BATCH_SIZE):
        logits = module(batch)
        loss += float(F.cross_entropy(logits, batch.labels, reduction="sum"))
        tokens += len(batch.labels)
        lengths = batch.request["scored"].sum(1).tolist()
        hits = logits.argmax(1) == batch.labels
        right += sum(bool(row.all()) for row in hits.split(lengths))
    return Metrics(right / len(examples), loss / tokens, "exact match")


def _of_labels(module: PromptedLanguageModel, examples: CompletionExamples) -> Metrics:
    loss, tokens, right = 0.0, 0, 0
    for rows in examples.by_length(_BATCH_SIZE):
        scores = module.label_scores([row.input_ids[: -row.completion] for row in rows], examples.label_tokens)
        labels = torch.tensor([row.label for row in rows])
        right += int((scores.argmax(1) == labels).sum())
        loss -= float(scores.gather(1, labels[:, None]).sum())
        tokens += sum(row.completion for row in rows)
    return Metrics(right / len(examples), loss / tokens)
