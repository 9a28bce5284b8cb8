from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_prompt.base.errors import InputError
from edge_prompt.formats.preprocessing import TextPreprocessing
from edge_prompt_runtime.inputs.text.token_arrays import checked_token_arrays

PREPROCESSING = TextPreprocessing(48, 64, 200, 2, 0, "mean", normalize=False)


def test_given_arrays_become_a_batch() -> None:
    batch = checked_token_arrays({"input_ids": np.array([[2, 7, 3]], np.int32)}, PREPROCESSING)
    np.testing.assert_array_equal(batch["input_ids"], np.array([[2, 7, 3]], np.int64), strict=True)
    np.testing.assert_array_equal(batch["attention_mask"], np.array([[1, 1, 1]], np.int64), strict=True)
    np.testing.assert_array_equal(batch["token_type_ids"], np.array([[0, 0, 0]], np.int64), strict=True)


def test_a_given_mask_and_types_are_taken() -> None:
    feeds = {
        "input_ids": np.array([[2, 7, 0]]),
        "attention_mask": np.array([[True, True, False]]),
        "token_type_ids": np.array([[0, 1, 0]], np.uint8),
    }
    batch = checked_token_arrays(feeds, PREPROCESSING)
    np.testing.assert_array_equal(batch["attention_mask"], np.array([[1, 1, 0]], np.int64), strict=True)
    np.testing.assert_array_equal(batch["token_type_ids"], np.array([[0, 1, 0]], np.int64), strict=True)


def test_int64_arrays_are_taken_as_they_are() -> None:
    given_ids = np.array([[2, 7, 3]])
    assert checked_token_arrays({"input_ids": given_ids}, PREPROCESSING)["input_ids"] is given_ids


IDS = np.array([[2, 7, 3]])


@pytest.mark.parametrize(
    ("feeds", "found"),
    [
        ({}, r"the arrays are named \[\]"),
        ({"attention_mask": IDS}, r"the arrays are named \['attention_mask'\]"),
        ({"input_ids": IDS, "soft_prompt": IDS}, r"the arrays are named \['input_ids', 'soft_prompt'\]"),
        ({"input_ids": IDS[0]}, r"input_ids has shape \[3\]"),
        ({"input_ids": IDS[None]}, r"input_ids has shape \[1, 1, 3\]"),
        ({"input_ids": IDS[:0]}, r"input_ids has shape \[0, 3\]"),
        ({"input_ids": IDS[:, :0]}, r"input_ids has shape \[1, 0\]"),
        ({"input_ids": np.array(3)}, r"input_ids has shape \[\]"),
        ({"input_ids": IDS.astype(np.float32)}, "input_ids has shape .* and dtype float32"),
        ({"input_ids": IDS.astype(str)}, "input_ids has shape .* and dtype <U21"),
        ({"input_ids": IDS, "attention_mask": IDS[:, :2]}, r"attention_mask has shape \[1, 2\]"),
        ({"input_ids": IDS, "attention_mask": np.ones((1, 3))}, "attention_mask has shape .* and dtype float64"),
        ({"input_ids": IDS, "token_type_ids": np.zeros((2, 3), int)}, r"token_type_ids has shape \[2, 3\]"),
    ],
)
def test_arrays_that_are_no_tokenisation_are_refused(feeds: dict[str, Any], found: str) -> None:
    with pytest.raises(InputError, match=found):
        checked_token_arrays(feeds, PREPROCESSING)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("input_ids", [2, 200, 3]),
        ("input_ids", [2, -1, 3]),
        ("token_type_ids", [0, 2, 0]),
        ("token_type_ids", [0, -1, 0]),
        ("attention_mask", [1, 2, 1]),
        ("attention_mask", [1, -1, 1]),
        ("attention_mask", [0, 0, 0]),
    ],
)
def test_what_the_engines_would_make_up_is_refused(name: str, row: list[int]) -> None:
    good = [2, 7, 3] if name == "input_ids" else [1, 1, 1]
    arrays = {"input_ids": np.array([[2, 7, 3]] * 2)} | {name: np.array([good, row])}
    with pytest.raises(InputError, match="bundle's own tokenizer"):
        checked_token_arrays(arrays, PREPROCESSING)


def test_known_tokens_pass() -> None:
    feeds = {"input_ids": np.array([[2, 199, 3]]), "token_type_ids": np.array([[0, 1, 1]])}
    assert checked_token_arrays(feeds, PREPROCESSING).keys() == {"input_ids", "attention_mask", "token_type_ids"}
