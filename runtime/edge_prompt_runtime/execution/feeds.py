"""From a request and its tasks to the graph's inputs: the one place where a prompt meets a request."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_prompt.base.errors import InputError
from edge_prompt_runtime.engines.base import Arrays
from edge_prompt_runtime.inputs.requests import Request
from edge_prompt_runtime.tasks.task import BATCH_AXES, LENGTH_AXES, Float32, Task

MASK = "attention_mask"
"""The input of graphs that mask: over a row's part of the prefix, of the soft prompt, and its tokens, in this order."""


def feeds_of(request: Arrays, tasks: Sequence[Task], input_names: Sequence[str], *, masked: bool) -> Arrays:
    """The graph's inputs for a batch whose row `i` is under `tasks[i]`.

    A batch of one task is fed that task's arrays as they are, with a leading 1 that the graph broadcasts: a swap copies
    nothing. In a batch of several tasks, prompts are filled up with zeros to the longest, and masked there.
    """
    prompts = prompt_feeds(tasks)
    feeds: dict[str, NDArray[Any]] = {**request, **prompts}
    if masked:
        masks = [
            _prompt_mask([task.length(name) for task in tasks]) for name in ("prefix", "soft_prompt") if name in prompts
        ]
        feeds[MASK] = np.concatenate([*masks, request[MASK]], 1)
    return {name: feeds[name] for name in input_names}


def prompt_feeds(tasks: Sequence[Task]) -> Mapping[str, Float32]:
    """The prompt inputs by name for rows under `tasks`."""
    if all(task is tasks[0] for task in tasks):
        return tasks[0].prompts
    return {name: _stacked([task.prompts[name] for task in tasks], name) for name in tasks[0].prompts}


def rows_that_run_together(request: Request, tasks: Sequence[Task]) -> list[list[int]]:
    """The rows of a batch in groups of one shape and one length of prompt, as a graph without a mask takes them."""
    groups: dict[Hashable, list[int]] = {}
    for row, task in enumerate(tasks):
        key = (request.shape_of(row), *(task.length(name) for name in LENGTH_AXES))
        groups.setdefault(key, []).append(row)
    return list(groups.values())


def outputs_together(groups: Iterator[tuple[list[int], dict[str, NDArray[Any]]]], rows: int) -> dict[str, NDArray[Any]]:
    """The outputs of all groups as one batch.

    Raises:
        InputError: The shape of an output differs between groups.
    """
    first, *others = groups
    if not others:
        return first[1]
    together = {name: np.empty((rows, *array.shape[1:]), array.dtype) for name, array in first[1].items()}
    for numbers, outputs in (first, *others):
        for name, array in outputs.items():
            shapes = [list(one.shape[1:]) for one in (together[name], array)]
            if shapes[0] != shapes[1]:
                raise InputError(
                    found=f"rows whose {name} have the shapes {shapes[0]} and {shapes[1]}",
                    wanted="rows whose outputs fit into one array",
                    remedy="ask about rows of one length of prompt at a time",
                )
            together[name][numbers] = array
    return together


def _prompt_mask(lengths: Sequence[int]) -> NDArray[np.int64]:
    """`[batch, longest]`: ones for a row's own virtual tokens, which come first."""
    return (np.arange(max(lengths)) < np.asarray(lengths)[:, None]).astype(np.int64)


def _stacked(arrays: Sequence[Float32], name: str) -> Float32:
    """The prompts of all rows along the axis of the batch, each filled up with zeros to the longest."""
    shape = [max(lengths) for lengths in zip(*(array.shape for array in arrays), strict=True)]
    shape[BATCH_AXES[name]] = len(arrays)
    stacked = np.zeros(shape, np.float32)
    for row, array in enumerate(arrays):
        place = [slice(length) for length in array.shape]
        place[BATCH_AXES[name]] = slice(row, row + 1)
        stacked[tuple(place)] = array
    return stacked
