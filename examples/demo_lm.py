"""Three tasks on one language model: the network is exported once, each task is a soft prompt of a few kilobytes.

make demo-lm         # accuracy on a sample of the held-out rows, on OpenVINO
make demo-lm FULL=1  # on all of them, on both engines

The network is SmolLM2-135M-Instruct, de-quantised from 4 bits. The prompts in `examples/prompts/language/` were tuned
by `examples/tune_language_prompts.py`: topics of Reuters texts as generated labels, bookings to strict JSON, dates to
Spanish. This script exports the network if that was not done yet, answers all three tasks and the base model in one
batch, and measures accuracy on held-out rows, tokens per second, and the time to the first token with and without a
prompt of 100 virtual tokens.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
from rich.markup import escape
from rich.table import Table

from edge_prompt.formats.bundle import read_bundle
from edge_prompt.formats.prompt import read_prompt, write_prompt
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.generation.results import Generation
from examples.accuracy import Accuracy, sample
from examples.console import ENGINE_NAMES, announce, console, demo_parser, quiet_libraries, step
from examples.language_scores import (
    PROMPTS,
    SMOLLM2_BUNDLE,
    export_smollm2,
    in_words,
    is_bundle,
    right_rows,
    smollm2_bundle,
)
from examples.real_data import CACHE
from examples.real_language import LANGUAGE_TASKS, TEMPLATE, LanguageTask, language_task, smollm2

QUESTION = "Maria Parker books two nights in Porto from Friday, 14 March, with breakfast."
QUESTIONS = {
    "topics": "Oil prices rose sharply after OPEC ministers agreed to cut the output of crude.",
    "bookings": QUESTION,
    "fechas": "Friday, 14 March",
}
"""What each task is asked first."""

SAMPLE = 40
DEMO_BUNDLE = CACHE / "demo-lm" / "bundle"
LONG_PROMPT, FIRST_TOKENS, GENERATED_TOKENS, SHOWN_TOKENS = 100, 9, 64, 32


class Answer(NamedTuple):
    """What was generated for one question: under the task's prompt, and by the base model asked in words."""

    task: str
    question: str
    prompted: str
    base: str


class Speed(NamedTuple):
    """One engine: milliseconds to the first token without a prompt and with a long one, and tokens per second."""

    engine: str
    first_ms: float
    first_long_ms: float
    tokens_per_second: float


def main() -> None:
    """Export the network, generate, measure, and print the tables."""
    full = demo_parser(__doc__ or "").parse_args().full
    quiet_libraries()
    console.print("[bold]One language model, three tasks[/bold]")
    with step("Getting SmolLM2-135M-Instruct (4-bit weights) and the rows of three tasks"):
        smollm2()
        tasks = {name: language_task(name) for name in LANGUAGE_TASKS}
    bundle = exported_bundle(both_engines=full)
    graphs = read_bundle(bundle).manifest.graphs
    engines = tuple(graphs) if full else tuple(graphs)[-1:]
    speeds = []
    accuracies: dict[tuple[str, str], Accuracy] = {}
    for number, engine in enumerate(engines):
        runtime = Runtime(bundle, engine)
        runtime.load_all(PROMPTS)
        if number == 0:
            announce("First answers:")
            console.print(answers_table(mixed_batch(runtime, tasks)))
        for name, task in tasks.items():
            rows = sample(task.held, None if full else SAMPLE)
            with step(f"{ENGINE_NAMES[engine]}: answering {len(rows)} held-out rows of {name}"):
                accuracies[name, engine] = Accuracy(right_rows(runtime, name, task, rows), len(rows))
        with step(f"{ENGINE_NAMES[engine]}: timing the first token and {GENERATED_TOKENS} more"):
            speeds.append(speed_of(runtime))
    console.print(accuracy_table(accuracies, engines))
    console.print("Right is the right label, the same values in JSON, or the same whole text.")
    console.print("The base model was asked in words when the prompts were tuned, on all rows.")
    if full:
        console.print("Accuracy on all held-out rows, with 95% confidence intervals.")
    else:
        console.print(f"Accuracy on {SAMPLE} random held-out rows per task, with 95% confidence intervals.")
        console.print("For all rows and both engines, run [bold]make demo-lm FULL=1[/bold].")
    console.print(speed_table(speeds))
    announce("Done")


def exported_bundle(*, both_engines: bool) -> Path:
    """The bundle of SmolLM2: that of an earlier export if there is one, for OpenVINO only unless both are wanted."""
    if is_bundle(SMOLLM2_BUNDLE):
        announce("Using the network as it was exported before")
    elif both_engines:
        with step("Exporting the network once, for ONNX Runtime and OpenVINO"):
            return smollm2_bundle()
    elif is_bundle(DEMO_BUNDLE):
        announce("Using the network as it was exported before")
        return DEMO_BUNDLE
    else:
        with step("Exporting the network once, for OpenVINO"):
            export_smollm2(DEMO_BUNDLE, ["openvino"])
        return DEMO_BUNDLE
    return SMOLLM2_BUNDLE


def mixed_batch(runtime: Runtime, tasks: Mapping[str, LanguageTask]) -> list[Answer]:
    """Answer one question per task, under its prompt and by the base model, all in one batch."""
    texts = [QUESTIONS[name] for name in tasks] + [in_words(task, QUESTIONS[name]) for name, task in tasks.items()]
    generations = runtime.generate(texts, task=[*tasks, *[None] * len(tasks)], max_new_tokens=SHOWN_TOKENS)
    assert isinstance(generations, list)  # noqa: S101 - several texts
    shown = [" ".join(one.text.split()) + ("" if one.finish_reason == "stop" else " …") for one in generations]
    return [Answer(name, QUESTIONS[name], shown[row], shown[row + len(tasks)]) for row, name in enumerate(tasks)]


def speed_of(runtime: Runtime) -> Speed:
    """Median times to the first token, measured in turn with and without a long prompt, and tokens per second."""
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
    """Write a prompt of 100 virtual tokens, those of a tuned prompt repeated; only its length matters here."""
    short = read_prompt(PROMPTS / f"{next(iter(LANGUAGE_TASKS))}.npy")
    assert short.card is not None  # noqa: S101 - tuning writes one
    array = np.tile(short.array, (-(-LONG_PROMPT // len(short.array)), 1))[:LONG_PROMPT]
    write_prompt(path, np.ascontiguousarray(array), "soft", short.card.fingerprint)


def timed(action: Callable[[], object]) -> tuple[float, object]:
    """How many seconds `action` takes, and its result."""
    start = perf_counter()
    result = action()
    return perf_counter() - start, result


def answers_table(answers: Sequence[Answer]) -> Table:
    """The first batch: each question under its task's prompt and without one."""
    title = "One batch: each task with its prompt, and the base model asked in words"
    table = Table("task", "question", "with its prompt", "base model", title=title, show_lines=True)
    for answer in answers:
        table.add_row(*map(escape, answer))
    return table


def accuracy_table(accuracies: Mapping[tuple[str, str], Accuracy], engines: Sequence[str]) -> Table:
    """The accuracy of each task under its prompt, compared with the base model asked in words."""
    table = Table(title="Held-out rows that are answered correctly")
    table.add_column("task")
    for name in ("prompt", *(f"with its prompt,\n{ENGINE_NAMES[engine]}" for engine in engines), "base model"):
        table.add_column(name, justify="right")
    for task in dict.fromkeys(task for task, _ in accuracies):
        path = PROMPTS / f"{task}.npy"
        card = read_prompt(path).card
        assert card is not None  # noqa: S101 - tuning writes one
        held_out = card.provenance["held_out"]
        base = Accuracy(round(held_out["right_without_prompt_but_told"] * held_out["rows"]), held_out["rows"])
        shares = [str(accuracies[task, engine]) for engine in engines]
        table.add_row(task, f"{path.stat().st_size / 1e3:.0f} kB", *shares, str(base))
    return table


def speed_table(speeds: Sequence[Speed]) -> Table:
    """The time to the first token and the tokens per second of every engine."""
    table = Table(title="Time to the first token, and tokens per second")
    for column in ("engine", "no prompt", f"{LONG_PROMPT} virtual tokens", "ratio", "tokens/s"):
        table.add_column(column, justify="left" if column == "engine" else "right")
    for speed in speeds:
        table.add_row(
            ENGINE_NAMES[speed.engine],
            f"{speed.first_ms:.0f} ms",
            f"{speed.first_long_ms:.0f} ms",
            f"{speed.first_long_ms / speed.first_ms:.2f}",
            f"{speed.tokens_per_second:.1f}",
        )
    return table


if __name__ == "__main__":
    main()
