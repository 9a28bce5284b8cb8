from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_prompt import Bundle
from edge_prompt_runtime.feeds import feeds_of
from edge_prompt_runtime.tasks import Task, base_task, load_task
from edge_prompt_runtime.tokenizing import TokenBatch

INPUTS = ("input_ids", "attention_mask", "token_type_ids", "soft_prompt", "prefix")
MASK = np.array([[1, 1, 1], [1, 1, 0]])
TOKENS = TokenBatch(np.array([[2, 7, 3], [2, 3, 0]]), MASK, np.zeros((2, 3), np.int64))


@pytest.fixture
def tasks(bundle: Bundle, make_prompt: Callable[..., Path]) -> dict[str, Task]:
    base = base_task(bundle.manifest)
    paths = {
        "soft_2": make_prompt("soft_2", "soft", length=2),
        "soft_4": make_prompt("soft_4", "soft", length=4),
        "prefix_3": make_prompt("prefix_3", "prefix", length=3),
        "prefix_1": make_prompt("prefix_1", "prefix", length=1),
    }
    return {"base": base} | {name: load_task(name, path, None, bundle, base) for name, path in paths.items()}


@pytest.mark.parametrize("name", ["base", "soft_4", "prefix_3"])
def test_a_swap_copies_nothing(tasks: dict[str, Task], name: str) -> None:
    feeds = feeds_of(TOKENS, [tasks[name]] * 2, INPUTS)
    assert feeds["soft_prompt"] is tasks[name].soft_prompt
    assert feeds["prefix"] is tasks[name].prefix
    assert feeds["input_ids"] is TOKENS.input_ids


@pytest.mark.parametrize(("name", "length"), [("base", 0), ("soft_4", 4), ("prefix_3", 3)])
def test_the_virtual_tokens_of_one_task_are_attended_to_by_all_rows(
    tasks: dict[str, Task], name: str, length: int
) -> None:
    mask = feeds_of(TOKENS, [tasks[name]] * 2, INPUTS)["attention_mask"]
    assert mask.dtype == np.int64
    np.testing.assert_array_equal(mask, np.concatenate([np.ones((2, length)), MASK], 1))


def test_prompts_of_several_tasks_are_filled_up_and_masked(tasks: dict[str, Task]) -> None:
    feeds = feeds_of(TOKENS, [tasks["soft_2"], tasks["soft_4"]], INPUTS)
    soft_prompt = feeds["soft_prompt"]
    assert soft_prompt.shape == (2, 4, 32)
    assert soft_prompt.dtype == np.float32
    np.testing.assert_array_equal(soft_prompt[0, :2], tasks["soft_2"].soft_prompt[0])
    np.testing.assert_array_equal(soft_prompt[0, 2:], 0)
    np.testing.assert_array_equal(soft_prompt[1], tasks["soft_4"].soft_prompt[0])
    assert feeds["prefix"].shape == (2, 2, 2, 4, 0, 8)
    np.testing.assert_array_equal(feeds["attention_mask"], [[1, 1, 0, 0, 1, 1, 1], [1, 1, 1, 1, 1, 1, 0]])


def test_the_mask_of_the_prefix_comes_before_that_of_the_soft_prompt(tasks: dict[str, Task]) -> None:
    feeds = feeds_of(TOKENS, [tasks["prefix_3"], tasks["soft_2"]], INPUTS)
    prefix, reference = feeds["prefix"], tasks["prefix_3"].prefix
    assert reference is not None
    assert prefix.shape == (2, 2, 2, 4, 3, 8)
    assert prefix.dtype == np.float32
    np.testing.assert_array_equal(prefix[:, :, 0], reference[:, :, 0])
    np.testing.assert_array_equal(prefix[:, :, 1], 0)
    np.testing.assert_array_equal(feeds["attention_mask"], [[1, 1, 1, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1, 1, 0]])


def test_prefixes_of_several_lengths_are_filled_up(tasks: dict[str, Task]) -> None:
    feeds = feeds_of(TOKENS, [tasks["base"], tasks["prefix_1"]], INPUTS)
    np.testing.assert_array_equal(feeds["attention_mask"], [[0, 1, 1, 1], [1, 1, 1, 0]])
    assert feeds["soft_prompt"].shape == (2, 0, 32)


def test_a_backbone_that_takes_no_prefix_is_fed_none(tasks: dict[str, Task]) -> None:
    rows = [replace(tasks[name], prefix=None) for name in ("base", "soft_2")]
    inputs = ("input_ids", "attention_mask", "soft_prompt")
    feeds = feeds_of(TOKENS, rows, inputs)
    assert tuple(feeds) == inputs
    np.testing.assert_array_equal(feeds["attention_mask"], [[0, 0, 1, 1, 1], [1, 1, 1, 1, 0]])


def test_only_the_inputs_of_the_graph_are_fed_in_their_order(tasks: dict[str, Task]) -> None:
    for inputs in (INPUTS, INPUTS[::-1], ("soft_prompt", "input_ids")):
        assert tuple(feeds_of(TOKENS, [tasks["soft_2"]] * 2, inputs)) == inputs
