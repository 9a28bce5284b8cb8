"""What another task costs: from its name to the graph's inputs, and from its file."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from edge_prompt_runtime.bench.answers import Arrays
from edge_prompt_runtime.bench.prompts import Measured
from edge_prompt_runtime.execution.feeds import feeds_of
from edge_prompt_runtime.inputs.requests import open_requests
from edge_prompt_runtime.runtime import Runtime
from edge_prompt_runtime.tasks.registry import TaskName


def warm_swap(runtime: Runtime, arrays: Arrays, names: Sequence[TaskName]) -> Callable[[], object]:
    """All that another task costs a request of one row beside running the network, each time another of `names`."""
    tasks = itertools.cycle(names)
    if runtime._language is not None:
        engine, compiled = runtime._engine, runtime._language.model.compiled
        return lambda: engine.begin([compiled.of(runtime.task(next(tasks))).past]).close()
    inputs = runtime.bundle.graph(runtime.engine).inputs
    requests = open_requests(runtime.bundle)
    row, masked = requests.take(arrays).of_rows([0]), requests.masked
    return lambda: feeds_of(row, [runtime.task(next(tasks))], inputs, masked=masked)


def cold_swap(runtime: Runtime, prompt: Measured) -> Callable[[], object]:
    """From a prompt's file to a task that can be asked for, every check included."""
    return lambda: runtime.load("cold", prompt.path, prompt.kind)


def numpy_load(prompt: Measured) -> Callable[[], object]:
    """Reading the prompt's array, and nothing else: what a cold swap cannot be quicker than."""
    return lambda: np.load(prompt.path, allow_pickle=False)
