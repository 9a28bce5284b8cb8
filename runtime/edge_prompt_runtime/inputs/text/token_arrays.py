"""Checks token arrays that the caller prepared, for encoders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_prompt.base.errors import InputError
from edge_prompt.formats.preprocessing import TextPreprocessing

TokenArrays = dict[str, NDArray[np.int64]]
"""`input_ids`, `attention_mask` (1 for real tokens) and `token_type_ids` by name, `[batch, sequence]` each."""


def checked_token_arrays(arrays: Mapping[str, NDArray[Any]], preprocessing: TextPreprocessing) -> TokenArrays:
    """Return all token arrays; mask and token types are optional in `arrays`.

    Raises:
        InputError: `input_ids` is missing, an array is unknown, has the wrong shape or is not of integers, or a value
            is unknown to the backbone.
    """
    unknown = arrays.keys() - set(TextPreprocessing.input_names)
    if unknown or "input_ids" not in arrays:
        raise InputError(
            found=f"the arrays are named {sorted(arrays)}",
            wanted="input_ids and, optionally, attention_mask and token_type_ids",
            remedy="rename or leave out the others, and choose a prompt with task=…",
        )
    input_ids = np.asarray(arrays["input_ids"])
    if input_ids.ndim != 2 or 0 in input_ids.shape:
        raise InputError(
            found=f"input_ids has shape {list(input_ids.shape)}",
            wanted="[batch, sequence], neither of them 0",
            remedy="add the batch dimension, or leave out empty requests",
        )
    found = {
        "input_ids": input_ids,
        "attention_mask": np.asarray(arrays.get("attention_mask", np.ones_like(input_ids))),
        "token_type_ids": np.asarray(arrays.get("token_type_ids", np.zeros_like(input_ids))),
    }
    for name, array in found.items():
        if array.shape != input_ids.shape or array.dtype.kind not in "iub":
            raise InputError(
                found=f"{name} has shape {list(array.shape)} and dtype {array.dtype}",
                wanted=f"integers of shape {list(input_ids.shape)}, like input_ids",
                remedy="take all arrays from the same tokenizer call",
            )
    tokens = {name: array.astype(np.int64, copy=False) for name, array in found.items()}
    _require_known_values(tokens, preprocessing)
    return tokens


def _require_known_values(tokens: TokenArrays, preprocessing: TextPreprocessing) -> None:
    """Check the values, because engines differ: for an unknown id, one fails and one returns garbage."""
    ids, mask, types = tokens.values()
    found = (
        ("input_ids", ids.min(), ids.max(), 0, preprocessing.vocab_size - 1),
        ("token_type_ids", types.min(), types.max(), 0, preprocessing.num_token_types - 1),
        ("attention_mask", mask.min(), mask.max(), 0, 1),
        ("the number of real tokens per row", mask.sum(1).min(), ids.shape[1], 1, ids.shape[1]),
    )
    for name, least, most, lowest, highest in found:
        if least < lowest or most > highest:
            raise InputError(
                found=f"{name} ranges from {least} to {most}",
                wanted=f"values from {lowest} to {highest}",
                remedy="tokenise with the bundle's own tokenizer",
            )
