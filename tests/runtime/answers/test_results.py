from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from transformers.models.yolos.image_processing_pil_yolos import YolosImageProcessorPil
from transformers.models.yolos.modeling_yolos import YolosObjectDetectionOutput

from edge_prompt_runtime.answers.results import (
    TokenLabel,
    classification_of,
    detections_of,
    segmentation_of,
    softmax,
    token_labels_of,
)

logit_rows = hnp.arrays(np.float32, st.integers(1, 8), elements=st.floats(-(2.0**100), 2.0**100, width=32))


@given(logits=logit_rows)
def test_probabilities_add_up_to_one(logits: NDArray[Any]) -> None:
    scores = softmax(logits)
    assert scores.dtype == np.float32
    assert (scores >= 0).all()
    assert scores.sum() == pytest.approx(1, abs=1e-5)


@given(logits=hnp.arrays(np.float32, 5, elements=st.floats(-8, 8, width=32)), shift=st.integers(-8, 8))
def test_a_shift_of_all_logits_changes_no_probability(logits: NDArray[Any], shift: int) -> None:
    np.testing.assert_allclose(softmax(logits + np.float32(shift)), softmax(logits), atol=1e-5)


def test_probabilities_are_those_of_the_definition() -> None:
    np.testing.assert_allclose(
        softmax(np.log(np.array([[1, 2, 5], [8, 1, 1]], np.float32))),
        [[0.125, 0.25, 0.625], [0.8, 0.1, 0.1]],
        rtol=1e-6,
    )


@given(logits=logit_rows)
def test_the_label_is_that_of_the_highest_logit(logits: NDArray[Any]) -> None:
    labels = tuple(f"label {index}" for index in range(len(logits)))
    found = classification_of(logits, labels)
    assert tuple(found.scores) == labels
    assert found.score == found.scores[found.label] == max(found.scores.values())


def test_tokens_of_no_length_and_those_outside_the_text_are_left_out() -> None:
    logits = np.array([[9, 0], [9, 0], [0, 9], [9, 0], [9, 0]], np.float32)
    offsets = ((0, 0), (0, 4), (5, 9), (9, 12), (-3, 2))
    found = token_labels_of("fine film", logits, offsets, ("x", "y"))
    assert [replace(token, score=0) for token in found] == [
        TokenLabel("fine", 0, 4, "x", 0),
        TokenLabel("film", 5, 9, "y", 0),
    ]
    assert [token.score for token in found] == pytest.approx([1, 1], abs=1e-3)


CLASSES = ("cat", "dog", "bird")


@pytest.mark.parametrize("threshold", [0.0, 0.4, 0.9])
@pytest.mark.parametrize("size", [(48, 64), (1, 7), (1080, 1920)])
def test_objects_are_those_of_the_networks_own_processor(threshold: float, size: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    logits = random.normal(scale=3, size=(20, 4)).astype(np.float32)
    boxes = random.uniform(size=(20, 4)).astype(np.float32)
    found = detections_of(logits, boxes, size, CLASSES, threshold)
    outputs = YolosObjectDetectionOutput(
        logits=torch.from_numpy(logits)[None], pred_boxes=torch.from_numpy(boxes)[None]
    )
    (wanted,) = YolosImageProcessorPil().post_process_object_detection(outputs, threshold, [size])
    order = wanted["scores"].argsort(descending=True, stable=True)
    assert 0 < len(found) <= 20
    assert [detection.label for detection in found] == [CLASSES[index] for index in wanted["labels"][order]]
    np.testing.assert_allclose([detection.score for detection in found], wanted["scores"][order], rtol=1e-5)
    np.testing.assert_allclose([detection.box for detection in found], wanted["boxes"][order], rtol=1e-5, atol=1e-3)


def test_the_surest_object_comes_first_and_nothing_is_no_object() -> None:
    logits = np.log(np.array([[0.6, 0.2, 0.1, 0.1], [0.1, 0.1, 0.1, 0.7], [0.05, 0.8, 0.05, 0.1]], np.float32))
    boxes = np.array([[0.5, 0.5, 1, 1], [0.5, 0.5, 1, 1], [0.25, 0.5, 0.5, 0.2]], np.float32)
    found = detections_of(logits, boxes, (100, 200), CLASSES, 0.5)
    assert [(detection.label, round(detection.score, 3)) for detection in found] == [("dog", 0.8), ("cat", 0.6)]
    assert found[0].box == pytest.approx((0, 40, 100, 60), abs=1e-3)
    assert found[1].box == pytest.approx((0, 0, 200, 100), abs=1e-3)


def test_an_image_without_objects_gives_none() -> None:
    logits = np.array([[0, 0, 0, 9]], np.float32)
    assert detections_of(logits, np.full((1, 4), 0.5, np.float32), (10, 10), CLASSES, 0.5) == []


sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))


@given(given_size=sizes, wanted_size=st.tuples(st.integers(1, 40), st.integers(1, 40)), seed=st.integers(0, 99))
def test_pixels_are_labelled_as_torch_interpolates(
    given_size: tuple[int, int], wanted_size: tuple[int, int], seed: int
) -> None:
    logits = np.random.default_rng(seed).normal(size=(3, *given_size)).astype(np.float32)
    found = segmentation_of(logits, wanted_size, CLASSES)
    scaled = torch.nn.functional.interpolate(
        torch.from_numpy(logits)[None], wanted_size, mode="bilinear", align_corners=False
    )[0]
    assert (found.map.shape, found.map.dtype, found.labels) == (wanted_size, np.dtype(np.int32), CLASSES)
    best, second = scaled.topk(2, 0).values
    sure = ((best - second) > 1e-5).numpy()  # if two classes differ only by rounding, either is correct
    np.testing.assert_array_equal(found.map[sure], scaled.argmax(0).numpy()[sure])
    chosen = scaled.gather(0, torch.from_numpy(found.map).long()[None])[0]
    assert (best - chosen).max() <= 1e-5
    assert sure.mean() > 0.9


def test_pixels_at_the_size_of_the_logits_have_the_highest_class_and_the_first_of_equals() -> None:
    logits = np.array([[[1, 0], [3, 0]], [[2, 0], [1, 5]], [[2, -1], [3, 5]]], np.float32)
    np.testing.assert_array_equal(segmentation_of(logits, (2, 2), CLASSES).map, [[1, 0], [0, 1]])
