from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from edge_prompt_runtime.results import TokenLabel, classification_of, softmax, token_labels_of

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
