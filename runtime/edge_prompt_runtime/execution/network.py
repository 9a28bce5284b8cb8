"""Runs requests on an open graph: adds the prompts of their tasks, with as few runs as possible per batch."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_prompt.base.errors import InputError
from edge_prompt_runtime.engines.base import Arrays, Engine
from edge_prompt_runtime.inputs.requests import Request
from edge_prompt_runtime.tasks.task import BATCH_AXES, LENGTH_AXES, Float32, Task

Outputs = dict[str, NDArray[Any]]
"""Outputs of the graph by name."""

MASK = "attention_mask"
"""The mask input: it covers a row's prefix, its soft prompt and its tokens, in this order."""

MASKED_PROMPTS = ("prefix", "soft_prompt")
"""The prompt inputs that the mask covers, in its order."""


class Network(Protocol):
    """A network on an engine. Thread-safe.

    Attributes:
        engine: The open graph.
    """

    engine: Engine

    def groups(self, request: Request, outputs: Sequence[str]) -> list[tuple[Sequence[int], Outputs]]:
        """Return for each run the indices of its rows in the request, and one array `[rows, …]` per output."""

    def prepare(self, task: Task, path: Path) -> None:
        """Do what is done once per task, before it is served; its prompt file is at `path`."""

    def forget(self, task: Task) -> None:
        """Drop what `prepare` kept for a task that is no longer served."""

    def switch(self, arrays: Arrays, tasks: Sequence[Task]) -> object:
        """Do only what a request does to use the prompts of its tasks, without running the network; for benchmarks."""

    @property
    def bytes_held(self) -> Mapping[str, Callable[[], int]]:
        """Functions that return the memory used in addition to the network and the prompts, by what it is used for."""


class GraphNetwork:
    """A network without state between requests; see `Network`.

    Args:
        engine: The open graph.
        input_names: Names of the graph's inputs.
        masked: Whether the graph takes a mask, so that rows with prompts of different lengths can run in one batch.

    Attributes:
        engine: The open graph.
    """

    bytes_held: Mapping[str, Callable[[], int]] = {}

    def __init__(self, engine: Engine, input_names: Sequence[str], *, masked: bool) -> None:
        self.engine = engine
        self._input_names = input_names
        self._masked = masked

    def groups(self, request: Request, outputs: Sequence[str]) -> list[tuple[Sequence[int], Outputs]]:
        """Run all rows at once, unless the graph takes no mask and the rows differ in size or length of prompt."""
        if self._masked:
            feeds = self.feeds(arrays_of(request, range(len(request.tasks))), request.tasks)
            return [(range(len(request.tasks)), self.engine.run(feeds, outputs))]
        found: list[tuple[Sequence[int], Outputs]] = []
        for rows in group_rows(request):
            feeds = self.feeds(arrays_of(request, rows), [request.tasks[row] for row in rows])
            found.append((rows, self.engine.run(feeds, outputs)))
        return found

    def feeds(self, arrays: Arrays, tasks: Sequence[Task]) -> Arrays:
        """Return the inputs of the graph for rows that run together: their arrays and the prompts of their tasks."""
        prompts = prompt_inputs(tasks)
        feeds = {**arrays, **prompts}
        if self._masked:
            masks = [
                _prompt_mask(prompts[name], tasks, name)
                for name in MASKED_PROMPTS
                if name in prompts and prompts[name].shape[LENGTH_AXES[name]]
            ]
            if masks:
                feeds[MASK] = np.concatenate([*masks, feeds[MASK]], 1)
        return {name: feeds[name] for name in self._input_names}

    def switch(self, arrays: Arrays, tasks: Sequence[Task]) -> Arrays:
        """Return the inputs of the graph; see `Network.switch`."""
        return self.feeds(arrays, tasks)

    def prepare(self, task: Task, path: Path) -> None:
        """Do nothing: a prompt is used as it is."""

    def forget(self, task: Task) -> None:
        """Do nothing."""


def batch_outputs(network: Network, request: Request, outputs: Sequence[str]) -> Outputs:
    """Return the outputs of all rows, one array `[batch, …]` per output.

    Raises:
        InputError: The shape of an output differs between rows.
    """
    first, *others = network.groups(request, outputs)
    if not others:
        return first[1]
    rows = len(request.tasks)
    joined = {name: np.empty((rows, *array.shape[1:]), array.dtype) for name, array in first[1].items()}
    for numbers, found in (first, *others):
        for name, array in found.items():
            shapes = [list(one.shape[1:]) for one in (joined[name], array)]
            if shapes[0] != shapes[1]:
                raise InputError(
                    found=f"the output {name} has the shapes {shapes[0]} and {shapes[1]} in different rows",
                    wanted="rows whose outputs have the same shape",
                    remedy="pass only rows with prompts of the same length in one call",
                )
            joined[name][list(numbers)] = array
    return joined


def by_row(network: Network, request: Request, outputs: Sequence[str]) -> list[Outputs]:
    """Return the outputs of each row."""
    answers: list[Outputs] = [{}] * len(request.tasks)
    for rows, found in network.groups(request, outputs):
        for index, row in enumerate(rows):
            answers[row] = {name: array[index] for name, array in found.items()}
    return answers


def arrays_of(request: Request, rows: Sequence[int]) -> dict[str, NDArray[Any]]:
    """Return the arrays of a request, by name, for some of its rows, which have the same shape."""
    if len(rows) == len(request.tasks):
        return {name: np.stack(array) if isinstance(array, list) else array for name, array in request.arrays.items()}
    return {
        name: np.stack([array[row] for row in rows]) if isinstance(array, list) else array[list(rows)]
        for name, array in request.arrays.items()
    }


def prompt_inputs(tasks: Sequence[Task]) -> Mapping[str, Float32]:
    """Return the prompt inputs by name for a batch whose row `i` belongs to `tasks[i]`.

    A batch of one task uses that task's arrays without a copy, with a batch axis of length 1 that the graph broadcasts.
    In a batch of several tasks, prompts are padded with zeros to the longest, and the padding is masked.
    """
    first = tasks[0]
    if len(tasks) == 1 or all(task is first for task in tasks):
        return first.prompts
    return {name: _stacked([task.prompts[name] for task in tasks], name) for name in first.prompts}


def group_rows(request: Request) -> list[list[int]]:
    """Group the rows of a batch by shape and length of prompt, as a graph without a mask requires."""
    groups: dict[Hashable, list[int]] = {}
    lists = [array for array in request.arrays.values() if isinstance(array, list)]
    for row, task in enumerate(request.tasks):
        key = (*(array[row].shape for array in lists), *(task.length(name) for name in LENGTH_AXES))
        groups.setdefault(key, []).append(row)
    return list(groups.values())


def _prompt_mask(prompt: Float32, tasks: Sequence[Task], name: str) -> NDArray[np.int64]:
    """The mask `[batch, longest]` of one prompt input: 1 for a row's own virtual tokens, which come first."""
    axis = LENGTH_AXES[name]
    longest = prompt.shape[axis]
    if prompt.shape[BATCH_AXES[name]] == 1:  # one task, whose virtual tokens are all its own
        return np.ones((len(tasks), longest), np.int64)
    lengths = np.array([task.prompts[name].shape[axis] for task in tasks])
    return (np.arange(longest) < lengths[:, None]).astype(np.int64)


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
