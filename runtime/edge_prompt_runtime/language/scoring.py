"""Classification with a causal language model: the probability that each label's text follows a text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_prompt_runtime.engines.base import Int64
from edge_prompt_runtime.language.model import LanguageModel
from edge_prompt_runtime.tasks.task import Task

Float64 = NDArray[np.float64]


def label_scores(model: LanguageModel, tokens: Int64, labels: Sequence[Int64], task: Task) -> Float64:
    """Return the log-probability of each label after `tokens`: the sum over its tokens.

    The text is read once; then its cache is repeated for all labels, which are read in one batch.

    Args:
        model: The model.
        tokens: The tokens of the text, `[length]`.
        labels: The tokens of each label, at least one each. They should end with the end-of-text token; otherwise a
            label that is a prefix of another is never less likely than that one.
        task: The task of the text.

    Returns:
        `[num_labels]`.
    """
    rows = model.begin([task])
    try:
        first = log_softmax(rows.start([tokens])[0])
        scores = np.array([first[label[0]] for label in labels])
        if max(map(len, labels)) == 1:
            return scores
        more = [number for number, label in enumerate(labels) if len(label) > 1]
        rows.keep([0] * len(more))
        for number, logits in zip(
            more, rows.forward([labels[number][:-1] for number in more], every=True), strict=True
        ):
            scores[number] += log_softmax(logits)[np.arange(len(logits)), labels[number][1:]].sum()
        return scores
    finally:
        rows.close()


def log_softmax(logits: NDArray[np.float32]) -> Float64:
    """Return log-probabilities along the last axis."""
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    result: Float64 = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result
