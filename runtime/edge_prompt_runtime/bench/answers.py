"""The calls that are measured, depending on the bundle."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import closing
from time import perf_counter_ns
from typing import Any, NamedTuple

from numpy.typing import NDArray

from edge_prompt.formats.manifest import LanguageManifest
from edge_prompt_runtime.answers.encoder import CLASSIFICATION_TASKS
from edge_prompt_runtime.runtime import Runtime
from edge_prompt_runtime.tasks.registry import TaskName

Arrays = Mapping[str, NDArray[Any]]


class Generated(NamedTuple):
    """The measurements of one generation.

    Attributes:
        first_ms: The time until every row has its first token.
        tokens_per_s: The rate of the tokens after that, over all rows.
    """

    first_ms: float
    tokens_per_s: float


def answer_to(runtime: Runtime, arrays: Arrays, task: TaskName) -> Callable[[], object]:
    """Return a function that runs a request once.

    A language model generates one token. A network with a head, its own or the task's, classifies. A network with only
    features returns an embedding. Otherwise, all outputs of the graph are returned.
    """
    if isinstance(runtime.bundle.manifest, LanguageManifest):
        return lambda: runtime.generate(arrays, task, max_new_tokens=1, temperature=0, ignore_eos=True)
    found, backbone = runtime.task(task), runtime.bundle.manifest.backbone
    if found.labels and (found.head is not None or backbone.task in CLASSIFICATION_TASKS):
        return lambda: runtime.classify(arrays, task)
    if runtime.bundle.graph(runtime.engine).outputs[0] == "features":
        return lambda: runtime.embed(arrays, task)
    return lambda: runtime.infer(arrays, task)


def generation_of(runtime: Runtime, arrays: Arrays, task: TaskName, new_tokens: int) -> Callable[[], Generated]:
    """Return a function that greedily generates `new_tokens` tokens per row, at least two, past any end of a text."""

    def generate() -> Generated:
        begun = perf_counter_ns()
        pieces = runtime.generate(arrays, task, stream=True, max_new_tokens=new_tokens, temperature=0, ignore_eos=True)
        with closing(pieces):
            rows = sum(1 for _ in zip(range(len(arrays["input_ids"])), pieces, strict=False))
            first = perf_counter_ns()
            further = sum(1 for _ in pieces)
        return Generated((first - begun) / 1e6, further * 1e9 / (perf_counter_ns() - first) if rows else 0.0)

    return generate
