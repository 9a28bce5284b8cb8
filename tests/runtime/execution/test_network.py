from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_prompt import Bundle
from edge_prompt_runtime.execution.network import GraphNetwork, arrays_of, group_rows, prompt_inputs
from edge_prompt_runtime.inputs.requests import Request
from edge_prompt_runtime.tasks.deep_prompts import DeepPromptFolder
from edge_prompt_runtime.tasks.task import Task, base_task, load_task

NEVER_RUN: Any = None
"""In place of an engine, for tests of the inputs alone."""

INPUTS = ("input_ids", "attention_mask", "token_type_ids", "soft_prompt", "prefix")
MASK = np.array([[1, 1, 1], [1, 1, 0]])
TOKENS = {
    "input_ids": np.array([[2, 7, 3], [2, 3, 0]]),
    "attention_mask": MASK,
    "token_type_ids": np.zeros((2, 3), np.int64),
}


@pytest.fixture
def tasks(bundle: Bundle, make_prompt: Callable[..., Path]) -> dict[str, Task]:
    base, fold = base_task(bundle.manifest), DeepPromptFolder(bundle, "onnxruntime")
    paths = {
        "soft_2": make_prompt("soft_2", "soft", length=2),
        "soft_4": make_prompt("soft_4", "soft", length=4),
        "prefix_3": make_prompt("prefix_3", "prefix", length=3),
        "prefix_1": make_prompt("prefix_1", "prefix", length=1),
    }
    return {"base": base} | {name: load_task(name, path, None, bundle, base, fold) for name, path in paths.items()}


def image_task(name: str, *, soft: int = 0, prefix: int = 0, pixel: bool = False) -> Task:
    """A task with random prompts of these lengths, for a backbone that takes images of 3 x 4 x 5."""
    random = np.random.default_rng(sum(name.encode()))
    pixels = random.standard_normal((1, 3, 4, 5)) if pixel else np.zeros((1, 3, 4, 5))
    prompts = {
        "soft_prompt": random.standard_normal((1, soft, 6)),
        "prefix": random.standard_normal((2, 2, 1, 3, prefix, 2)),
        "pixel_prompt": pixels,
    }
    return Task(name, "", {key: array.astype(np.float32) for key, array in prompts.items()}, None, (), "{text}", 0)


def masked(tasks: list[Task], inputs: tuple[str, ...] = INPUTS) -> dict[str, NDArray[Any]]:
    return dict(GraphNetwork(NEVER_RUN, inputs, masked=True).feeds(TOKENS, tasks))


@pytest.mark.parametrize("name", ["base", "soft_4", "prefix_3"])
def test_a_swap_copies_nothing(tasks: dict[str, Task], name: str) -> None:
    feeds = masked([tasks[name]] * 2)
    assert feeds["soft_prompt"] is tasks[name].prompts["soft_prompt"]
    assert feeds["prefix"] is tasks[name].prompts["prefix"]
    assert feeds["input_ids"] is TOKENS["input_ids"]


def test_a_swap_copies_nothing_where_nothing_is_masked() -> None:
    task, images = image_task("a", soft=2, prefix=3, pixel=True), np.zeros((2, 3, 4, 5), np.float32)
    network = GraphNetwork(NEVER_RUN, ("pixel_values", *task.prompts), masked=False)
    feeds = network.feeds({"pixel_values": images}, [task] * 2)
    assert feeds["pixel_values"] is images
    for name, array in task.prompts.items():
        assert feeds[name] is array


@pytest.mark.parametrize(("name", "length"), [("base", 0), ("soft_4", 4), ("prefix_3", 3)])
def test_the_virtual_tokens_of_one_task_are_attended_to_by_all_rows(
    tasks: dict[str, Task], name: str, length: int
) -> None:
    mask = masked([tasks[name]] * 2)["attention_mask"]
    assert mask.dtype == np.int64
    np.testing.assert_array_equal(mask, np.concatenate([np.ones((2, length)), MASK], 1))


def test_prompts_of_several_tasks_are_padded_and_masked(tasks: dict[str, Task]) -> None:
    feeds = masked([tasks["soft_2"], tasks["soft_4"]])
    soft_prompt = feeds["soft_prompt"]
    assert soft_prompt.shape == (2, 4, 32)
    assert soft_prompt.dtype == np.float32
    np.testing.assert_array_equal(soft_prompt[0, :2], tasks["soft_2"].prompts["soft_prompt"][0])
    np.testing.assert_array_equal(soft_prompt[0, 2:], 0)
    np.testing.assert_array_equal(soft_prompt[1], tasks["soft_4"].prompts["soft_prompt"][0])
    assert feeds["prefix"].shape == (2, 2, 2, 4, 0, 8)
    np.testing.assert_array_equal(feeds["attention_mask"], [[1, 1, 0, 0, 1, 1, 1], [1, 1, 1, 1, 1, 1, 0]])


def test_the_mask_of_the_prefix_comes_before_that_of_the_soft_prompt(tasks: dict[str, Task]) -> None:
    feeds = masked([tasks["prefix_3"], tasks["soft_2"]])
    prefix, reference = feeds["prefix"], tasks["prefix_3"].prompts["prefix"]
    assert prefix.shape == (2, 2, 2, 4, 3, 8)
    assert prefix.dtype == np.float32
    np.testing.assert_array_equal(prefix[:, :, 0], reference[:, :, 0])
    np.testing.assert_array_equal(prefix[:, :, 1], 0)
    np.testing.assert_array_equal(feeds["attention_mask"], [[1, 1, 1, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1, 1, 0]])


def test_prefixes_of_several_lengths_are_padded(tasks: dict[str, Task]) -> None:
    feeds = masked([tasks["base"], tasks["prefix_1"]])
    np.testing.assert_array_equal(feeds["attention_mask"], [[0, 1, 1, 1], [1, 1, 1, 0]])
    assert feeds["soft_prompt"].shape == (2, 0, 32)


def test_a_backbone_that_takes_no_prefix_is_fed_none(tasks: dict[str, Task]) -> None:
    rows = [
        replace(tasks[name], prompts={"soft_prompt": tasks[name].prompts["soft_prompt"]}) for name in ("base", "soft_2")
    ]
    inputs = ("input_ids", "attention_mask", "soft_prompt")
    feeds = masked(rows, inputs)
    assert tuple(feeds) == inputs
    np.testing.assert_array_equal(feeds["attention_mask"], [[0, 0, 1, 1, 1], [1, 1, 1, 1, 0]])


def test_a_backbone_that_takes_no_prompt_is_fed_none(tasks: dict[str, Task]) -> None:
    rows = [replace(tasks[name], prompts={}) for name in ("base", "soft_2")]
    feeds = masked(rows, INPUTS[:3])
    np.testing.assert_array_equal(feeds["attention_mask"], MASK)


def test_only_the_inputs_of_the_graph_are_fed_in_their_order(tasks: dict[str, Task]) -> None:
    for inputs in (INPUTS, INPUTS[::-1], ("soft_prompt", "input_ids")):
        assert tuple(masked([tasks["soft_2"]] * 2, inputs)) == inputs


@given(lengths=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.booleans()), min_size=1, max_size=5))
def test_every_row_of_a_stack_is_its_prompt_padded_with_zeros(lengths: list[tuple[int, int, bool]]) -> None:
    tasks = [image_task(str(i), soft=s, prefix=p, pixel=x) for i, (s, p, x) in enumerate(lengths)]
    stacked = prompt_inputs(tasks)
    assert {array.dtype for array in stacked.values()} == {np.dtype(np.float32)}
    longest_soft, longest_prefix = max(s for s, _, _ in lengths), max(p for _, p, _ in lengths)
    assert {name: array.shape for name, array in stacked.items()} == {
        "soft_prompt": (len(tasks), longest_soft, 6),
        "prefix": (2, 2, len(tasks), 3, longest_prefix, 2),
        "pixel_prompt": (len(tasks), 3, 4, 5),
    }
    for row, (task, (soft, prefix, _)) in enumerate(zip(tasks, lengths, strict=True)):
        np.testing.assert_array_equal(stacked["soft_prompt"][row, :soft], task.prompts["soft_prompt"][0])
        np.testing.assert_array_equal(stacked["soft_prompt"][row, soft:], 0)
        np.testing.assert_array_equal(stacked["prefix"][:, :, row, :, :prefix], task.prompts["prefix"][:, :, 0])
        np.testing.assert_array_equal(stacked["prefix"][:, :, row, :, prefix:], 0)
        np.testing.assert_array_equal(stacked["pixel_prompt"][row], task.prompts["pixel_prompt"][0])


def test_pixel_prompts_of_several_tasks_are_stacked_by_row() -> None:
    plain, coloured = image_task("plain"), image_task("coloured", pixel=True)
    stacked = prompt_inputs([coloured, plain, coloured])["pixel_prompt"]
    assert stacked.shape == (3, 3, 4, 5)
    np.testing.assert_array_equal(stacked[0], coloured.prompts["pixel_prompt"][0])
    np.testing.assert_array_equal(stacked[1], 0)
    np.testing.assert_array_equal(stacked[2], stacked[0])


def images(tasks: list[Task], *sizes: tuple[int, int]) -> Request:
    """A request with images of these sizes."""
    return Request({"pixel_values": [np.full((3, *size), row, np.float32) for row, size in enumerate(sizes)]}, tasks)


def test_rows_of_one_shape_and_length_run_together() -> None:
    tasks = [image_task(name, soft=2, pixel=name > "b") for name in "abcd"]
    request = Request({"pixel_values": np.zeros((4, 3, 4, 5), np.float32)}, tasks)
    assert group_rows(request) == [[0, 1, 2, 3]]


def test_rows_are_grouped_by_the_lengths_of_their_prompts() -> None:
    base, soft, prefix = image_task("base"), image_task("soft", soft=2), image_task("prefix", prefix=2)
    tasks = [soft, base, prefix, image_task("other", soft=2), base, image_task("longer", soft=3)]
    request = Request({"pixel_values": np.zeros((6, 3, 4, 5), np.float32)}, tasks)
    assert group_rows(request) == [[0, 3], [1, 4], [2], [5]]


def test_rows_are_grouped_by_the_shapes_of_their_images() -> None:
    sizes, task = ((4, 5), (5, 4), (4, 5)), image_task("a")
    assert group_rows(images([task] * 3, *sizes)) == [[0, 2], [1]]
    assert group_rows(images([task, task, image_task("b", soft=1)], *sizes)) == [[0], [1], [2]]


@given(rows=st.lists(st.tuples(st.integers(1, 2), st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=8))
def test_every_row_is_in_one_group_with_all_that_are_like_it(rows: list[tuple[int, int, int]]) -> None:
    tasks = [image_task(str(number), soft=s, prefix=p) for number, (_, s, p) in enumerate(rows)]
    request = images(tasks, *((height, 3) for height, _, _ in rows))
    groups = group_rows(request)
    assert sorted(row for group in groups for row in group) == list(range(len(rows)))
    for group in groups:
        assert group == sorted(group)
        assert len({rows[row] for row in group}) == 1
        arrays = arrays_of(request, group)["pixel_values"]
        np.testing.assert_array_equal(arrays[:, 0, 0, 0], group)
    assert len(groups) == len(set(rows))
