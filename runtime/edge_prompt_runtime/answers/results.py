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


@dataclass(frozen=True)
class Detection:
    """One object in an image.

    Attributes:
        label: Its class.
        score: Its probability.
        box: `(left, top, right, bottom)` in pixels of the image as it came.
    """

    label: str
    score: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The class of every pixel of an image.

    Attributes:
        map: `[height, width]` of the image as it came, int32: an index into `labels` a pixel.
        labels: The class names.
    """

    map: NDArray[np.int32]
    labels: tuple[str, ...]


def detections_of(
    logits: NDArray[np.float32],
    boxes: NDArray[np.float32],
    size: tuple[int, int],
    labels: tuple[str, ...],
    threshold: float,
) -> list[Detection]:
    """The objects that a network of the DETR kind names (Carion et al. 2020, https://arxiv.org/abs/2005.12872).

    Args:
        logits: `[queries, num_labels + 1]`; the last class is "nothing".
        boxes: `[queries, 4]`: centre across, centre down, width, height, as shares of the image.
        size: `(height, width)` of the image in pixels.
        labels: The class names.
        threshold: The least score.
    """
    scores = softmax(logits)[:, :-1]
    best = scores.argmax(1)
    surest_first = np.argsort(-scores.max(1), kind="stable")
    height, width = size
    answers = []
    for query in surest_first:
        score = float(scores[query, best[query]])
        if score > threshold:
            across, down, wide, high = (float(share) for share in boxes[query])
            edges = (across - wide / 2, down - high / 2, across + wide / 2, down + high / 2)
            box = (edges[0] * width, edges[1] * height, edges[2] * width, edges[3] * height)
            answers.append(Detection(labels[best[query]], score, box))
    return answers


def segmentation_of(logits: NDArray[np.float32], size: tuple[int, int], labels: tuple[str, ...]) -> Segmentation:
    """The label map at the size of the image: logits are interpolated between, then the highest is taken.

    Args:
        logits: `[num_labels, rows, columns]`.
        size: `(height, width)` of the image in pixels.
        labels: The class names.
    """
    height, width = size
    best = np.full((height, width), -np.inf, np.float32)
    found = np.zeros((height, width), np.int32)
    for index, plane in enumerate(logits):  # a class at a time: a map of 150 classes at full size is a gigabyte
        scaled = _bilinear(plane, height, width)
        higher = scaled > best
        best[higher], found[higher] = scaled[higher], index
    return Segmentation(found, labels)


def _bilinear(plane: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """`plane [rows, columns]` at `[height, width]`, as torch interpolates with `align_corners=False`."""
    down, across = _weights(plane.shape[0], height), _weights(plane.shape[1], width)
    rows = plane[down[0]] * (1 - down[2][:, None]) + plane[down[1]] * down[2][:, None]
    return np.asarray(rows[:, across[0]] * (1 - across[2]) + rows[:, across[1]] * across[2], dtype=np.float32)


def _weights(given: int, wanted: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """For each place wanted: the two places given that it lies between, and how far it is towards the second."""
    places = np.maximum((np.arange(wanted, dtype=np.float32) + 0.5) * np.float32(given / wanted) - 0.5, 0)
    first = np.minimum(places.astype(np.int64), given - 1)
    return first, np.minimum(first + 1, given - 1), (places - first).astype(np.float32)
