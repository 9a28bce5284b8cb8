"""One real network, exported once; three tasks on real texts, answered by swapping prompts that are kilobytes.

make demo

The prompts in `examples/prompts/` were tuned on the training splits by `examples/tune_prompts.py`. This script exports
the network they were tuned on, answers the whole test splits on both engines, and times a swap beside loading another
network.
"""

from __future__ import annotations

import shutil
import statistics
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from edge_prompt_export import export_backbone
from edge_prompt_export.training.data import Example
from edge_prompt_runtime import Runtime, TruncationWarning
from edge_prompt_runtime.engines.base import open_engine
from edge_prompt_runtime.execution.feeds import feeds_of
from edge_prompt_runtime.inputs.requests import open_requests
from examples.real_data import CACHE, TEXT_TASKS, minilm, text_task

PROMPTS = Path(__file__).resolve().parent / "prompts"
BATCH_SIZE = 16
SWAPS = 2000
LOADS = 3

console = Console()


class Score(NamedTuple):
    """One task on one engine."""

    engine: str
    task: str
    accuracy: float
    swap_us: float
    load_ms: float


def main() -> None:
    """Export, answer, and print the table."""
    console.print("[bold]One network, three tasks[/bold]: getting all-MiniLM-L6-v2 and the texts")
    backbone = minilm()
    tests = {name: text_task(name).test for name in TEXT_TASKS}
    bundle = CACHE / "demo" / "bundle"
    shutil.rmtree(bundle, ignore_errors=True)
    start = perf_counter()
    manifest = export_backbone(backbone, bundle).manifest
    console.print(f"exported once, for {' and '.join(manifest.graphs)}, in {perf_counter() - start:.0f} s")
    scores: list[Score] = []
    for engine in manifest.graphs:
        runtime = Runtime(bundle, engine)
        runtime.load_all(PROMPTS)
        if not scores:
            show_mixed_batch(runtime, tests)
        load_ms = median_ms(partial(open_engine, runtime.bundle, engine), LOADS)
        for task, examples in tests.items():
            scores.append(Score(engine, task, accuracy_of(runtime, task, examples), swap_us(runtime, task), load_ms))
    show_scores(scores, network_bytes=4 * manifest.backbone.num_parameters)


def accuracy_of(runtime: Runtime, task: str, examples: list[Example]) -> float:
    """The share of `examples` that `runtime` classifies right under `task`."""
    ordered = sorted(examples, key=lambda example: len(example.text))
    right = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)  # the card says how much of a text the task reads
        starts = range(0, len(ordered), BATCH_SIZE)
        for start in track(
            starts, f"{runtime.engine}: {task}, {len(ordered):,} texts", console=console, transient=True
        ):
            batch = ordered[start : start + BATCH_SIZE]
            answers = runtime.classify([example.text for example in batch], task=task)
            right += sum(answer.label == example.label for answer, example in zip(answers, batch, strict=True))
    return right / len(ordered)


def swap_us(runtime: Runtime, task: str) -> float:
    """What another task costs a request: from its name to the inputs of the graph, in microseconds."""
    tokens = open_requests(runtime.bundle).take({"input_ids": np.ones((1, 8), np.int64)}).of_rows([0])
    names = runtime.bundle.graph(runtime.engine).inputs
    return 1000 * median_ms(lambda: feeds_of(tokens, [runtime.task(task)], names, masked=True), SWAPS)


def median_ms(action: Callable[[], object], times: int) -> float:
    """The median time of `action`, in milliseconds."""
    samples = []
    for _ in range(times):
        start = perf_counter()
        action()
        samples.append(1000 * (perf_counter() - start))
    return statistics.median(samples)


def show_mixed_batch(runtime: Runtime, tests: dict[str, list[Example]]) -> None:
    """One batch, a task a row."""
    rows = [(task, min(examples[:50], key=lambda example: len(example.text))) for task, examples in tests.items()]
    answers = runtime.classify([example.text for _, example in rows], task=[task for task, _ in rows])
    table = Table("task", "text", "answer", "truth", title="One batch, another task every row", show_lines=True)
    for (task, example), answer in zip(rows, answers, strict=True):
        text = example.text if len(example.text) <= 160 else example.text[:160] + "…"
        table.add_row(task, text, f"{answer.label} ({answer.score:.0%})", example.label)
    console.print(table)


def show_scores(scores: list[Score], network_bytes: int) -> None:
    """The table of all tasks and engines."""
    table = Table(title="Each task: a prompt instead of a network")
    for column in ("task", "engine", "accuracy", "prompt + head", "network", "swap", "load a network"):
        table.add_column(column, justify="left" if column in {"engine", "task"} else "right", no_wrap=True)
    for score in sorted(scores, key=lambda score: score.task):
        table.add_row(
            score.task,
            score.engine,
            f"{score.accuracy:.1%}",
            f"{task_bytes(score.task) / 1e3:.0f} kB",
            f"{network_bytes / 1e6:.1f} MB",
            f"{score.swap_us:.0f} µs",
            f"{score.load_ms:.0f} ms",
        )
    console.print(table)
    console.print("accuracy on the whole test split; each task's settings and figures are on its card:")
    console.print("  edge-prompt inspect examples/prompts/reuters.npy", style="bold")


def task_bytes(task: str) -> int:
    """What a task needs on disk beside the one network: prompt, card and head."""
    return sum(path.stat().st_size for path in PROMPTS.glob(f"{task}.*"))


if __name__ == "__main__":
    main()
