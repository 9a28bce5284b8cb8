"""Combines a request with the prompts of its tasks into the graph's inputs."""

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
"""The mask input: it covers a row's prefix, its soft prompt and its tokens, in this order."""


def feeds_of(request: Arrays, tasks: Sequence[Task], input_names: Sequence[str], *, masked: bool) -> Arrays:
    """Return the graph's inputs for a batch whose row `i` belongs to `tasks[i]`.

    A batch of one task uses that task's arrays without a copy, with a batch axis of length 1 that the graph broadcasts.
    In a batch of several tasks, prompts are padded with zeros to the longest, and the padding is masked.
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
    """Return the prompt inputs by name for rows that belong to `tasks`."""
    if all(task is tasks[0] for task in tasks):
        return tasks[0].prompts
    return {name: _stacked([task.prompts[name] for task in tasks], name) for name in tasks[0].prompts}


def rows_that_run_together(request: Request, tasks: Sequence[Task]) -> list[list[int]]:
    """Group the rows of a batch by shape and length of prompt, as a graph without a mask requires."""
    groups: dict[Hashable, list[int]] = {}
    for row, task in enumerate(tasks):
        key = (request.shape_of(row), *(task.length(name) for name in LENGTH_AXES))
        groups.setdefault(key, []).append(row)
    return list(groups.values())


def outputs_together(groups: Iterator[tuple[list[int], dict[str, NDArray[Any]]]], rows: int) -> dict[str, NDArray[Any]]:
    """Join the outputs of all groups into one batch.

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
                    found=f"the output {name} has the shapes {shapes[0]} and {shapes[1]} in different rows",
                    wanted="rows whose outputs have the same shape",
                    remedy="pass only rows with prompts of the same length in one call",
                )
            together[name][numbers] = array
    return together


def _prompt_mask(lengths: Sequence[int]) -> NDArray[np.int64]:
    """The mask `[batch, longest]`: 1 for a row's own virtual tokens, which come first."""
    return (np.arange(max(lengths)) < np.asarray(lengths)[:, None]).astype(np.int64)


def _stacked(arrays: Sequence[Float32], name: str) -> Float32:
    """Stack the prompts of all rows along the batch axis, each padded with zeros to the longest."""
    shape = [max(lengths) for lengths in zip(*(array.shape for array in arrays), strict=True)]
    shape[BATCH_AXES[name]] = len(arrays)
    stacked = np.zeros(shape, np.float32)
    for row, array in enumerate(arrays):
        place = [slice(length) for length in array.shape]
        place[BATCH_AXES[name]] = slice(row, row + 1)
        stacked[tuple(place)] = array
    return stacked
