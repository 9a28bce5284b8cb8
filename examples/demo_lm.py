"""One real language model, exported once; three tasks by soft prompts of a few kilobytes, and the base model.

make demo-lm

The network is SmolLM2-135M-Instruct, de-quantised from 4 bits. The prompts in `examples/prompts/language/` were tuned
by `examples/tune_language_prompts.py`: topics of Reuters texts as generated labels, bookings to strict JSON, dates to
Spanish. This script exports the network if that was not done yet, asks the same question under each task and under none
in one batch, and measures on both engines: what each task gets right on held-out rows, tokens a second, and the time to
the first token with and without a prompt of 100 virtual tokens.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from edge_prompt.formats.bundle import read_bundle
from edge_prompt.formats.prompt import read_prompt, write_prompt
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.generation.results import Generation
from examples.language_scores import PROMPTS, right_share, smollm2_bundle
from examples.real_language import LANGUAGE_TASKS, TEMPLATE, language_task

QUESTION = "Maria Parker books two nights in Porto from Friday, 14 March, with breakfast."
LONG_PROMPT, FIRST_TOKENS, GENERATED_TOKENS = 100, 9, 64

console = Console()


class Speed(NamedTuple):
    """What one engine takes: milliseconds to the first token without a prompt and with a long one, and tokens/s."""

    engine: str
    first_ms: float
    first_long_ms: float
    tokens_per_second: float


def main() -> None:
    """Export, ask, measure, and print the tables."""
    console.print("[bold]One language model, three tasks[/bold]: getting SmolLM2-135M-Instruct (from 4 bits)")
    folder = smollm2_bundle()
    manifest = read_bundle(folder).manifest
    console.print(f"exported once, for {' and '.join(manifest.graphs)}: {folder}")
    speeds, right = [], {}
    for number, engine in enumerate(manifest.graphs):
        runtime = Runtime(folder, engine)
        runtime.load_all(PROMPTS)
        if number == 0:
            show_answers(runtime)
        speeds.append(speed_of(runtime))
        for name in LANGUAGE_TASKS:
            task = language_task(name)
            with console.status(f"{engine}: {name}, {len(task.held)} held-out rows"):
                right[name, engine] = right_share(runtime, name, task)
    show_right(right, tuple(manifest.graphs))
    show_speeds(speeds)


def show_answers(runtime: Runtime) -> None:
    """The same question under each task and under none, in one batch."""
    tasks = [None, *LANGUAGE_TASKS]
    questions = [TEMPLATE.replace("{text}", QUESTION), *[QUESTION] * len(LANGUAGE_TASKS)]
    answers = runtime.generate(questions, task=tasks, max_new_tokens=40)
    assert isinstance(answers, list)  # noqa: S101 - several questions
    table = Table("task", "answer", title=f"One batch, one question: {QUESTION}", show_lines=True)
    for name, answer in zip(tasks, answers, strict=True):
        table.add_row(name or "none", answer.text.strip() + ("" if answer.finish_reason == "stop" else " …"))
    console.print(table)


def speed_of(runtime: Runtime) -> Speed:
    """Medians of requests that take turns."""
    text = TEMPLATE.replace("{text}", QUESTION)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.npy"
        write_long_prompt(path)
        runtime.load("long", path)
    seconds: dict[str | None, list[float]] = {None: [], "long": []}
    for _ in range(FIRST_TOKENS):
        for task, samples in seconds.items():
            samples.append(timed(lambda task=task: runtime.generate(text, task=task, max_new_tokens=1))[0])  # type: ignore[misc]
    taken, answer = timed(lambda: runtime.generate(text, max_new_tokens=GENERATED_TOKENS))
    runtime.unload("long")
    assert isinstance(answer, Generation)  # noqa: S101 - one text
    first, first_long = (1000 * statistics.median(samples) for samples in seconds.values())
    return Speed(runtime.engine, first, first_long, len(answer.tokens) / taken)


def write_long_prompt(path: Path) -> None:
    """A prompt of 100 virtual tokens, made of those of a tuned one; only its length matters here."""
    short = read_prompt(PROMPTS / f"{next(iter(LANGUAGE_TASKS))}.npy")
    assert short.card is not None  # noqa: S101 - tuning writes one
    array = np.tile(short.array, (-(-LONG_PROMPT // len(short.array)), 1))[:LONG_PROMPT]
    write_prompt(path, np.ascontiguousarray(array), "soft", short.card.fingerprint)


def timed(action: Callable[[], object]) -> tuple[float, object]:
    """How many seconds `action` takes, and what it gives."""
    start = perf_counter()
    result = action()
    return perf_counter() - start, result


def show_right(right: dict[tuple[str, str], float], engines: tuple[str, ...]) -> None:
    """What each task gets right, beside the base model that is told in words what to do."""
    table = Table(title="Held-out rows that are answered right")
    for column in ("task", "prompt", *engines, "base model, told"):
        table.add_column(column, justify="left" if column == "task" else "right", no_wrap=True)
    for name in LANGUAGE_TASKS:
        path = PROMPTS / f"{name}.npy"
        card = read_prompt(path).card
        assert card is not None  # noqa: S101 - tuning writes one
        base = card.provenance["held_out"]["right_without_prompt_but_told"]
        shares = [f"{right[name, engine]:.1%}" for engine in engines]
        table.add_row(name, f"{path.stat().st_size / 1e3:.0f} kB", *shares, f"{base:.1%}")
    console.print(table)
    console.print(
        "the base model's figures stand on the cards: edge-prompt inspect examples/prompts/language/topics.npy"
    )


def show_speeds(speeds: list[Speed]) -> None:
    """The table of both engines."""
    table = Table(title="Time to the first token, and tokens a second")
    for column in ("engine", "no prompt", f"{LONG_PROMPT} virtual tokens", "times", "tokens/s"):
        table.add_column(column, justify="left" if column == "engine" else "right", no_wrap=True)
    for speed in speeds:
        table.add_row(
            speed.engine,
            f"{speed.first_ms:.0f} ms",
            f"{speed.first_long_ms:.0f} ms",
            f"{speed.first_long_ms / speed.first_ms:.2f}",
            f"{speed.tokens_per_second:.1f}",
        )
    console.print(table)


if __name__ == "__main__":
    main()
