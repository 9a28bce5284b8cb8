"""Three text tasks on one sentence encoder: the network is exported once, each task is a prompt of a few kilobytes.

make demo         # accuracy on a sample of each test split
make demo FULL=1  # on the whole test splits

The prompts in `examples/prompts/` were tuned on the training splits by `examples/tune_prompts.py`. This script exports
the network they were tuned on, classifies texts of all three tasks in one batch, measures accuracy on both engines, and
compares switching tasks with opening another network.
"""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
from rich.markup import escape
from rich.table import Table

import edge_prompt_export
from edge_prompt_export.training.data import Example
from edge_prompt_runtime import Runtime
from examples.accuracy import Accuracy, sample
from examples.console import ENGINE_NAMES, announce, console, demo_parser, quiet_libraries, step, tracked
from examples.real_data import CACHE, TEXT_TASKS, minilm, text_task

PROMPTS = Path(__file__).resolve().parent / "prompts"
SAMPLE = 200
BATCH_SIZE = 16
SWAPS = 2000
OPENINGS = 3
SHOWN_CHARACTERS = 160


class Answer(NamedTuple):
    """One answer of the first batch: the task, the text, its true label, and the label and score that were given."""

    task: str
    text: str
    truth: str
    label: str
    score: float


class Speed(NamedTuple):
    """One engine: the median time of a task switch in microseconds, and of opening a network in milliseconds."""

    engine: str
    swap_us: float
    open_ms: float


def main() -> None:
    """Export the network, classify, measure, and print the tables."""
    full = demo_parser(__doc__ or "").parse_args().full
    quiet_libraries()
    console.print("[bold]One network, three tasks[/bold]")
    with step("Getting all-MiniLM-L6-v2 and three sets of test texts"):
        backbone = minilm()
        tests = {name: text_task(name).test for name in TEXT_TASKS}
    rows = {name: sample(test, None if full else SAMPLE) for name, test in tests.items()}
    bundle = CACHE / "demo" / "bundle"
    shutil.rmtree(bundle, ignore_errors=True)
    with step("Exporting the network once, for ONNX Runtime and OpenVINO"):
        manifest = edge_prompt_export.export_backbone(backbone, bundle).manifest
    accuracies: dict[tuple[str, str], Accuracy] = {}
    speeds = []
    for number, engine in enumerate(manifest.graphs):
        runtime = Runtime(bundle, engine)
        runtime.load_all(PROMPTS)
        if number == 0:
            announce("First answers:")
            console.print(answers_table(mixed_batch(runtime, tests)))
        for task, examples in rows.items():
            accuracies[task, engine] = accuracy_of(runtime, task, examples)
        with step(f"{ENGINE_NAMES[engine]}: timing task switches"):
            speeds.append(Speed(engine, swap_us(runtime, task), median_ms(partial(Runtime, bundle, engine), OPENINGS)))
    network_bytes = 4 * manifest.backbone.num_parameters
    console.print(accuracy_table(accuracies, tuple(manifest.graphs), network_bytes))
    if full:
        console.print("Accuracy on the whole test splits, with 95% confidence intervals.")
    else:
        console.print(f"Accuracy on {SAMPLE} random test texts per task, with 95% confidence intervals.")
        console.print("For whole test splits, run [bold]make demo FULL=1[/bold].")
    console.print(speed_table(speeds))
    console.print("To see how a prompt was tuned, read its card:")
    console.print("  edge-prompt inspect examples/prompts/reuters.npy", style="bold")
    announce("Done")


def mixed_batch(runtime: Runtime, tests: Mapping[str, Sequence[Example]]) -> list[Answer]:
    """Classify one short text of each task, all in one batch."""
    rows = [(task, min(examples[:50], key=lambda example: len(example.text))) for task, examples in tests.items()]
    answers = runtime.classify([example.text for _, example in rows], task=[task for task, _ in rows])
    return [
        Answer(task, example.text, example.label, answer.label, answer.score)
        for (task, example), answer in zip(rows, answers, strict=True)
    ]


def accuracy_of(runtime: Runtime, task: str, examples: Sequence[Example]) -> Accuracy:
    """The accuracy of `runtime` on `examples` under `task`."""
    ordered = sorted(examples, key=lambda example: len(example.text))
    batches = [ordered[start : start + BATCH_SIZE] for start in range(0, len(ordered), BATCH_SIZE)]
    right = 0
    for batch in tracked(batches, f"{ENGINE_NAMES[runtime.engine]}: classifying {len(ordered):,} texts of {task}"):
        answers = runtime.classify([example.text for example in batch], task=task)
        right += sum(answer.label == example.label for answer, example in zip(answers, batch, strict=True))
    return Accuracy(right, len(ordered))


def swap_us(runtime: Runtime, task: str) -> float:
    """What another task costs a request: from its name to the inputs of the graph, in microseconds."""
    switch = runtime.switcher({"input_ids": np.ones((1, 8), np.int64)})
    return 1000 * median_ms(lambda: switch(task), SWAPS)


def median_ms(action: Callable[[], object], times: int) -> float:
    """The median time of `action`, in milliseconds."""
    samples = []
    for _ in range(times):
        start = perf_counter()
        action()
        samples.append(1000 * (perf_counter() - start))
    return statistics.median(samples)


def answers_table(answers: Sequence[Answer]) -> Table:
    """The first batch: each row is answered under its own task."""
    table = Table("task", "text", "answer", title="One batch, a different task in each row", show_lines=True)
    for answer in answers:
        text = " ".join(answer.text.split())
        text = text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS].rstrip()} …"
        verdict = "correct" if answer.label == answer.truth else f"wrong: {answer.truth}"
        table.add_row(answer.task, escape(text), f"{answer.label} ({answer.score:.0%})\n{verdict}")
    return table


def accuracy_table(accuracies: Mapping[tuple[str, str], Accuracy], engines: Sequence[str], network_bytes: int) -> Table:
    """The accuracy of every task on every engine, and what it needs compared with a network of its own."""
    table = Table(title=f"A prompt and a head instead of a network ({network_bytes / 1e6:.1f} MB)")
    table.add_column("task")
    for name in (*(f"accuracy,\n{ENGINE_NAMES[engine]}" for engine in engines), "prompt\nand head"):
        table.add_column(name, justify="right")
    for task in dict.fromkeys(task for task, _ in accuracies):
        table.add_row(
            task,
            *(str(accuracies[task, engine]) for engine in engines),
            f"{task_bytes(PROMPTS, task) / 1e3:.0f} kB",
        )
    return table


def speed_table(speeds: Sequence[Speed]) -> Table:
    """A task switch compared with opening another network, on every engine."""
    table = Table(title="Switching tasks")
    for name in ("engine", "switch to another prompt", "open another network"):
        table.add_column(name, justify="left" if name == "engine" else "right")
    for speed in speeds:
        table.add_row(ENGINE_NAMES[speed.engine], f"{speed.swap_us:.0f} µs", f"{speed.open_ms:.0f} ms")
    return table


def task_bytes(folder: Path, task: str) -> int:
    """The size on disk of what a task adds to the network: prompt, card and head."""
    return sum(path.stat().st_size for path in folder.glob(f"{task}.*"))


if __name__ == "__main__":
    main()
