"""The cost of switching tasks: warm, from a loaded task to the inputs of the graph, and cold, from its file."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from edge_prompt_runtime.bench.answers import Arrays
from edge_prompt_runtime.bench.prompts import BenchPrompt
from edge_prompt_runtime.runtime import Runtime
from edge_prompt_runtime.tasks.registry import TaskName


def warm_swap(runtime: Runtime, arrays: Arrays, names: Sequence[TaskName]) -> Callable[[], object]:
    """Return a function that switches a one-row request to the next of `names`, without running the network."""
    tasks, switch = itertools.cycle(names), runtime.switcher(arrays)
    return lambda: switch(next(tasks))


def cold_swap(runtime: Runtime, prompt: BenchPrompt) -> Callable[[], object]:
    """Return a function that loads a prompt from its file as a task, with all checks."""
    return lambda: runtime.load("cold", prompt.path, prompt.kind)


def numpy_load(prompt: BenchPrompt) -> Callable[[], object]:
    """Return a function that only reads the array of a prompt, a lower bound for a cold swap."""
    return lambda: np.load(prompt.path, allow_pickle=False)
