"""The answers of a runtime, and how they are computed from the outputs of the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_prompt.formats.problem_type import MULTI_LABEL, REGRESSION


@dataclass(frozen=True)
class Classification:
    """The class of one text or image.

    Attributes:
        label: The class with the highest score.
        score: Its probability; for a regression, the number itself.
        scores: The probability of every class by label, in the order of the labels. They add up to 1 unless the
            classifier has several labels per text or image, or a single one.
    """

    label: str
    score: float
    scores: Mapping[str, float]


@dataclass(frozen=True)
class TokenLabel:
    """The class of one token of a text.

    Attributes:
        text: The part of the text that the token covers.
        start: Start of that part in the text, in characters.
        end: End of that part in the text, in characters.
        label: The class with the highest score.
        score: Its probability.
    """

    text: str
    start: int
    end: int
    label: str
    score: float


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return probabilities over the last axis, without overflow."""
    exponentials = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(-1, keepdims=True), dtype=np.float32)


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return one probability per logit, without overflow."""
    shares = np.exp(-np.abs(logits))
    return np.asarray(np.where(logits >= 0, 1, shares) / (1 + shares), dtype=np.float32)


def scores_of(logits: NDArray[np.float32], problem_type: str | None) -> NDArray[np.float32]:
    """Return the scores of a classifier: probabilities, or the logits themselves for a regression."""
    if problem_type == REGRESSION:
        return logits
    if problem_type == MULTI_LABEL or len(logits) == 1:
        return sigmoid(logits)
    return softmax(logits)


def classification_of(
    logits: NDArray[np.float32], labels: tuple[str, ...], problem_type: str | None = None
) -> Classification:
    """Return the classification that `logits [num_labels]` give, as transformers' pipelines do.

    Args:
        logits: The output of the head.
        labels: The class names.
        problem_type: What the logits mean, one of `edge_prompt.formats.problem_type.PROBLEM_TYPES`; None leaves it to
            their number.
    """
    scores = scores_of(logits, problem_type)
    best = int(scores.argmax())
    return Classification(labels[best], float(scores[best]), dict(zip(labels, scores.tolist(), strict=True)))


def token_labels_of(
    text: str, logits: NDArray[np.float32], offsets: tuple[tuple[int, int], ...], labels: tuple[str, ...]
) -> list[TokenLabel]:
    """Return the labels that `logits [sequence, num_labels]` give for the tokens inside `text`."""
    scores = softmax(logits)
    answers = []
    for row, (start, end) in enumerate(offsets):
        if 0 <= start < end <= len(text):  # skips special tokens (no length) and the template's (outside)
            best = int(scores[row].argmax())
            answers.append(TokenLabel(text[start:end], start, end, labels[best], float(scores[row, best])))
    return answers


@dataclass(frozen=True)
class Detection:
    """One object in an image.

    Attributes:
        label: Its class.
        score: Its probability.
        box: `(left, top, right, bottom)` in pixels of the original image.
    """

    label: str
    score: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The class of every pixel of an image.

    Attributes:
        map: int32 `[height, width]` at the size of the original image: one index into `labels` per pixel.
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
    """Return the objects that a DETR-style network finds (Carion et al. 2020, https://arxiv.org/abs/2005.12872).

    Args:
        logits: `[queries, num_labels + 1]`; the last class is "no object".
        boxes: `[queries, 4]`: centre x, centre y, width and height, relative to the size of the image.
        size: `(height, width)` of the image in pixels.
        labels: The class names.
        threshold: Objects must have a higher score than this.
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
    """Return the label map at the size of the image: interpolates the logits, then takes the highest one.

    Args:
        logits: `[num_labels, rows, columns]`.
        size: `(height, width)` of the image in pixels.
        labels: The class names.
    """
    height, width = size
    best = np.full((height, width), -np.inf, np.float32)
    found = np.zeros((height, width), np.int32)
    for index, plane in enumerate(logits):  # class by class: a map of 150 classes at full size takes a gigabyte
        scaled = _bilinear(plane, height, width)
        higher = scaled > best
        best[higher], found[higher] = scaled[higher], index
    return Segmentation(found, labels)


def _bilinear(plane: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Resize `plane [rows, columns]` to `[height, width]` like torch with `align_corners=False`."""
    down, across = _weights(plane.shape[0], height), _weights(plane.shape[1], width)
    rows = plane[down[0]] * (1 - down[2][:, None]) + plane[down[1]] * down[2][:, None]
    return np.asarray(rows[:, across[0]] * (1 - across[2]) + rows[:, across[1]] * across[2], dtype=np.float32)


def _weights(given: int, wanted: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """For each output position: the two input positions it lies between, and the weight of the second."""
    places = np.maximum((np.arange(wanted, dtype=np.float32) + 0.5) * np.float32(given / wanted) - 0.5, 0)
    first = np.minimum(places.astype(np.int64), given - 1)
    return first, np.minimum(first + 1, given - 1), (places - first).astype(np.float32)
