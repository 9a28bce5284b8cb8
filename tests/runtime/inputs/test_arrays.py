from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edge_prompt import Bundle
from edge_prompt.base.errors import InputError
from edge_prompt.formats.manifest import EncoderManifest
from edge_prompt.formats.preprocessing import ArrayInput, ArrayPreprocessing
from edge_prompt_runtime.execution.network import arrays_of
from edge_prompt_runtime.inputs.requests import Request, Requests, open_requests
from edge_prompt_runtime.tasks.task import Task

BASE = Task("", "", {}, None, (), "{text}", 0)
INPUTS = {
    "signal": ArrayInput("float32", (None, 2, None)),
    "step": ArrayInput("int64", (None,)),
    "seen": ArrayInput("bool", (None, 4)),
}
ARRAYS = {
    "signal": np.arange(18, dtype=np.float32).reshape(3, 2, 3),
    "step": np.array([5, 6, 7]),
    "seen": np.ones((3, 4), bool),
}


@pytest.fixture
def requests(bundle: Bundle) -> Requests:
    assert isinstance(bundle.manifest, EncoderManifest)
    return open_requests(replace(bundle, manifest=replace(bundle.manifest, preprocessing=ArrayPreprocessing(INPUTS))))


def take(requests: Requests, arrays: Any) -> Request:
    return requests.read(arrays, BASE)


def test_arrays_are_taken_as_they_are(requests: Requests) -> None:
    request = take(requests, ARRAYS)
    assert (request.tasks, request.single, request.sizes) == ([BASE] * 3, False, ())
    for name, array in ARRAYS.items():
        assert request.arrays[name] is array
    for name, array in arrays_of(request, [0, 2]).items():
        np.testing.assert_array_equal(array, ARRAYS[name][[0, 2]])


def test_a_free_axis_takes_any_length(requests: Requests) -> None:
    signal = np.zeros((3, 2, 100), np.float32)
    assert take(requests, {**ARRAYS, "signal": signal}).arrays["signal"] is signal


@pytest.mark.parametrize(
    ("name", "dtype", "wanted"),
    [
        ("signal", np.float64, np.float32),
        ("signal", np.float16, np.float32),
        ("signal", np.int64, np.float32),
        ("step", np.int32, np.int64),
        ("step", np.uint8, np.int64),
    ],
)
def test_a_dtype_of_the_same_kind_or_a_lesser_one_is_converted(
    requests: Requests, name: str, dtype: Any, wanted: Any
) -> None:
    taken = take(requests, {**ARRAYS, name: ARRAYS[name].astype(dtype)}).arrays[name]
    np.testing.assert_array_equal(taken, ARRAYS[name].astype(wanted), strict=True)


def test_lists_of_numbers_are_arrays(requests: Requests) -> None:
    given: dict[str, Any] = {name: array.tolist() for name, array in ARRAYS.items()}
    for name, array in take(requests, given).arrays.items():
        np.testing.assert_array_equal(array, ARRAYS[name], strict=True)


@pytest.mark.parametrize(
    ("arrays", "found"),
    [
        ({}, r"the arrays are named \[\]"),
        ({"signal": ARRAYS["signal"]}, r"the arrays are named \['signal'\]"),
        ({**ARRAYS, "soft_prompt": ARRAYS["signal"]}, "the arrays are named .*'soft_prompt'"),
        ({**ARRAYS, "signal": ARRAYS["signal"][0]}, r"signal has shape \[2, 3\]"),
        ({**ARRAYS, "signal": ARRAYS["signal"][:, :1]}, r"signal has shape \[3, 1, 3\]"),
        ({**ARRAYS, "signal": ARRAYS["signal"][:, :, :0]}, r"signal has shape \[3, 2, 0\]"),
        ({**ARRAYS, "signal": ARRAYS["signal"].astype(complex)}, "dtype complex128"),
        ({**ARRAYS, "signal": ARRAYS["signal"].astype(str)}, "dtype <U32"),
        ({**ARRAYS, "step": np.array(5)}, r"step has shape \[\]"),
        ({**ARRAYS, "step": ARRAYS["step"].astype(np.float32)}, "step has shape .* and dtype float32"),
        ({**ARRAYS, "seen": ARRAYS["seen"].astype(np.int64)}, "seen has shape .* and dtype int64"),
        ({**ARRAYS, "step": ARRAYS["step"][:2]}, r"the arrays have \[2, 3\] rows; expected the same number of rows"),
    ],
)
def test_other_arrays_are_refused(requests: Requests, arrays: dict[str, Any], found: str) -> None:
    with pytest.raises(InputError, match=found):
        take(requests, arrays)


def test_a_refusal_says_what_is_wanted(requests: Requests) -> None:
    wanted = r"signal float32 \[batch, 2, free\], step int64 \[batch\], seen bool \[batch, 4\]"
    with pytest.raises(InputError, match=wanted):
        take(requests, {})


@pytest.mark.parametrize("inputs", ["a text", ["a text"], b"bytes", ARRAYS["signal"], 3])
def test_nothing_but_arrays_by_name_is_taken(requests: Requests, inputs: Any) -> None:
    with pytest.raises(InputError, match=f"the request is of type {type(inputs).__name__}; expected arrays by name"):
        take(requests, inputs)
