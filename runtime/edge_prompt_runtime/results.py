"""What the runtime answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Classification:
    """The class of one text.

    Attributes:
        label: The class of the highest score.
        score: Its probability.
        scores: The probability of every class, by label, in the order of the labels.
    """

    label: str
    score: float
    scores: Mapping[str, float]


@dataclass(frozen=True)
class TokenLabel:
    """The class of one token of a text.

    Attributes:
        text: The part of the text that the token stands for.
        start: Where that part starts in the text, in characters.
        end: Where it ends.
        label: The class of the highest score.
        score: Its probability.
    """

    text: str
    start: int
    end: int
    label: str
    score: float


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities over the last axis, without overflow."""
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(-1, keepdims=True), dtype=np.float32)


def classification_of(logits: NDArray[np.float32], labels: tuple[str, ...]) -> Classification:
    """The answer that `logits [num_labels]` give."""
    scores = softmax(logits)
    best = int(scores.argmax())
    return Classification(labels[best], float(scores[best]), dict(zip(labels, scores.tolist(), strict=True)))


def token_labels_of(
    text: str, logits: NDArray[np.float32], offsets: tuple[tuple[int, int], ...], labels: tuple[str, ...]
) -> list[TokenLabel]:
    """The answers that `logits [sequence, num_labels]` give for the tokens that lie in `text`."""
    scores = softmax(logits)
    answers = []
    for row, (start, end) in enumerate(offsets):
        if 0 <= start < end <= len(text):  # special tokens have no length, a template's lie outside
            best = int(scores[row].argmax())
            answers.append(TokenLabel(text[start:end], start, end, labels[best], float(scores[row, best])))
    return answers
