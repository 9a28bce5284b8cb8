from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from edge_prompt import Bundle
from edge_prompt.base.errors import InputError
from edge_prompt_runtime import TruncationWarning
from edge_prompt_runtime.execution.network import arrays_of
from edge_prompt_runtime.inputs.requests import Requests, open_requests
from edge_prompt_runtime.tasks.task import Task, base_task


@pytest.fixture
def requests(bundle: Bundle) -> Requests:
    return open_requests(bundle)


@pytest.fixture
def base(bundle: Bundle) -> Task:
    return base_task(bundle.manifest)


def test_a_text_is_one_and_a_sequence_of_texts_several(requests: Requests, base: Task) -> None:
    for inputs, count, single in (("w1 w2", 1, True), (["w1"], 1, False), (("w1", "w2"), 2, False)):
        request = requests.read(inputs, base)
        assert (len(request.tasks), request.single) == (count, single)


@pytest.mark.parametrize("inputs", [b"w1", bytearray(b"w1"), 3, None, np.array(["w1"])])
def test_what_is_no_text_is_refused(requests: Requests, base: Task, inputs: Any) -> None:
    with pytest.raises(
        InputError, match=rf"of type {type(inputs).__name__}, but this backbone reads texts; expected a text"
    ):
        requests.read(inputs, base)


def test_texts_are_tokenised_each_under_its_task(requests: Requests, base: Task) -> None:
    short = replace(base, template="w7 {text}", max_tokens=4)
    with pytest.warns(TruncationWarning, match="text 1 was truncated to 4 tokens"):
        request = requests.read(["w0", "w1 w2 w3"], [base, short])
    assert request.tasks == [base, short]
    np.testing.assert_array_equal(request.arrays["input_ids"], [[2, 5, 3, 0], [2, 12, 6, 3]])
    np.testing.assert_array_equal(request.arrays["attention_mask"], [[1, 1, 1, 0], [1, 1, 1, 1]])
    np.testing.assert_array_equal(request.arrays["token_type_ids"], np.zeros((2, 4)))
    assert request.offsets()[0] == ((0, 0), (0, 2), (0, 0))
    assert request.sizes == ()


def test_arrays_are_taken_as_the_graph_has_them(requests: Requests, base: Task) -> None:
    ids = np.array([[2, 7, 3], [2, 3, 0]])
    request = requests.read({"input_ids": ids}, base)
    assert (request.tasks, request.offsets()) == ([base] * 2, ())
    assert request.arrays["input_ids"] is ids
    assert arrays_of(request, [0, 1])["input_ids"] is ids
    np.testing.assert_array_equal(arrays_of(request, [1])["input_ids"], [[2, 3, 0]])
    np.testing.assert_array_equal(request.arrays["attention_mask"], np.ones((2, 3)))


@pytest.mark.parametrize(
    ("arrays", "found"),
    [
        ({"pixel_values": np.zeros((1, 3, 8, 8))}, r"the arrays are named \['pixel_values'\]"),
        ({"input_ids": np.array([[2, 200, 3]])}, "input_ids ranges from 2 to 200"),
        ({"input_ids": np.array([2, 7, 3])}, r"input_ids has shape \[3\]"),
    ],
)
def test_other_arrays_are_refused(requests: Requests, base: Task, arrays: dict[str, Any], found: str) -> None:
    with pytest.raises(InputError, match=found):
        requests.read(arrays, base)


def test_only_real_tokens_need_room(requests: Requests, base: Task) -> None:
    ids, mask = np.full((2, 60), 7), np.zeros((2, 60), np.int64)
    mask[0, :48], mask[1, :9] = 1, 1
    arrays = {"input_ids": ids, "attention_mask": mask}
    requests.read(arrays, base)
    with pytest.raises(InputError, match="row 1 has 9 tokens for task 'short'; expected at most 8"):
        requests.read(arrays, [base, replace(base, name="short", max_tokens=8)])
