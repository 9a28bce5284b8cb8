"""What a runtime is asked for when it is measured, by what its bundle does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from time import perf_counter_ns
from typing import Any, NamedTuple

from numpy.typing import NDArray

from edge_prompt_runtime.answers.encoder import CLASSIFICATION_TASKS
from edge_prompt_runtime.runtime import Runtime
from edge_prompt_runtime.tasks.registry import TaskName

Arrays = Mapping[str, NDArray[Any]]


class Generated(NamedTuple):
    """What generating took.

    Attributes:
        first_ms: Until the first token of every row.
        tokens_per_s: Of the tokens after these, all rows together.
    """

    first_ms: float
    tokens_per_s: float


def answer_to(runtime: Runtime, arrays: Arrays, task: TaskName) -> Callable[[], object]:
    """What asks a request once.

    A language model gives its first token; what has a head, its own or the task's, classifies; what has features alone
    gives these as an embedding; else all outputs of the graph are taken.
    """
    if runtime.bundle.manifest.cache:
        return lambda: runtime.generate(arrays, task, max_new_tokens=1, temperature=0)
    found, backbone = runtime.task(task), runtime.bundle.manifest.backbone
    if found.labels and (found.head is not None or backbone.task in CLASSIFICATION_TASKS):
        return lambda: runtime.classify(arrays, task)
    if runtime.bundle.graph(runtime.engine).outputs[0] == "features":
        return lambda: runtime.embed(arrays, task)
    return lambda: runtime.infer(arrays, task)


def generation_of(runtime: Runtime, arrays: Arrays, task: TaskName, new_tokens: int) -> Callable[[], Generated]:
    """What generates so many tokens a row, the most likely ones, at least two."""

    def generate() -> Generated:
        begun = perf_counter_ns()
        with closing(runtime.generate(arrays, task, stream=True, max_new_tokens=new_tokens, temperature=0)) as pieces:
            rows = sum(1 for _ in zip(range(len(arrays["input_ids"])), pieces, strict=False))
            first = perf_counter_ns()
            further = sum(1 for _ in pieces)
        return Generated((first - begun) / 1e6, further * 1e9 / (perf_counter_ns() - first) if rows else 0.0)

    return generate


def never_ending(runtime: Runtime) -> None:
    """Have no token end a text that this runtime generates: all are as long as was asked for."""
    if runtime._language is not None:
        vars(runtime._language)["_config"] = {}
