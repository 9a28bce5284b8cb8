"""How fast is a batch of mixed tasks, compared with a batch of one task, one row at a time, and batches by task?

    python benchmarks/questions/mixed_batch.py

Whole calls of `classify` on all-MiniLM-L6-v2, including tokenisation, with texts from the test split of Reuters R8
truncated to 64 tokens, in rows per second:

- A batch of 8 rows of 8 tasks, and the same 8 texts as a batch of one task. The two alternate, and a ratio compares a
  run with the mean of its two neighbours. Where prompts differ in length, shorter ones are padded to the longest, so
  the batch of one task uses the longest prompt; a batch with the shortest is shown as well.
- The same 8 rows one at a time.
- 32 rows with tasks at random: in order of arrival, in batches of 8; and by task, one batch of any size per task.

Kinds: prefixes and soft prompts, all of 16 virtual tokens, and of 4 to 32. On SmolLM2-135M-Instruct, with soft prompts
of 100: 8 rows are continued by some tokens, as one batch of 8 tasks, of one task, and one at a time. In every variant
each row must first be answered as it is alone.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np

from benchmarks.lib.bundles import minilm_bundle
from benchmarks.lib.publish import Measured, options, publish
from edge_prompt import Head, read_bundle, write_prompt
from edge_prompt_runtime import Classification, Runtime, TruncationWarning
from edge_prompt_runtime.bench.results import Chart, Ratio, Series
from edge_prompt_runtime.bench.timing import interleaved_us, ratios_to_neighbours
from edge_prompt_runtime.engines.base import ENGINES
from examples.language_scores import smollm2_bundle
from examples.real_data import text_task

TASKS, MAX_TOKENS, NEAR = 8, 64, 1e-4
STREAM_ROWS = 32
LENGTHS = {"equal": (16,), "mixed": (4, 8, 16, 32)}
GOAL = 0.95
LANGUAGE_VIRTUAL_TOKENS, REQUEST_TOKENS, NEW_TOKENS = 100, 28, 8
MIXED, SINGLE, SHORTEST = "mixed batch of 8 tasks", "batch of one task", "batch of one task, the shortest prompt"
ONE = "one row at a time"
AS_THEY_COME, BY_TASK = "32 rows in order of arrival, batches of 8", "32 rows by task"


class Plan(NamedTuple):
    """The extent of a run.

    Attributes:
        kinds: Kinds of prompts for texts.
        rounds: Pairs of a mixed batch and one of a single task; other variants get a quarter of them.
        warm_up_rounds: The maximum of rounds for warming up.
        language_rounds: Pairs on the language model.
    """

    kinds: tuple[str, ...]
    rounds: int
    warm_up_rounds: int
    language_rounds: int


FULL, QUICK = Plan(("prefix", "soft"), 40, 6, 6), Plan(("prefix",), 5, 1, 0)


class Case(NamedTuple):
    """Tasks of one kind on one engine.

    Attributes:
        name: Name in series.
        runtime: The runtime, with the tasks loaded.
        tasks: Their names, from the shortest prompt to the longest.
    """

    name: str
    runtime: Runtime
    tasks: tuple[str, ...]


def write_tasks(bundle: Path, folder: Path, kind: str, lengths: Sequence[int]) -> tuple[str, ...]:
    """Write prompts with heads, by length; return their names."""
    manifest = read_bundle(bundle).manifest
    names = []
    for number in range(TASKS):
        random = np.random.default_rng(number)
        length = lengths[number * len(lengths) // TASKS]
        shape = [length if axis is None else axis for axis in manifest.kinds[kind]]
        head = Head(
            random.standard_normal((4, manifest.backbone.feature_size), dtype=np.float32), np.zeros(4, np.float32)
        )
        write_prompt(
            folder / f"task{number}.npy",
            random.standard_normal(shape, dtype=np.float32),
            kind,
            manifest.backbone.fingerprint,
            head=head,
            labels=("north", "east", "south", "west"),
            max_tokens=MAX_TOKENS,
        )
        names.append(f"task{number}")
    return tuple(names)


def by_task(texts: Sequence[str], tasks: Sequence[str]) -> dict[str, list[str]]:
    """Group the texts by task."""
    found: dict[str, list[str]] = {}
    for text, task in zip(texts, tasks, strict=True):
        found.setdefault(task, []).append(text)
    return found


def require_equal(name: str, found: Sequence[Classification], wanted: Sequence[Classification]) -> None:
    """Stop before timing if rows in a batch are answered differently from the rows alone."""
    for number, (in_batch, alone) in enumerate(zip(found, wanted, strict=True)):
        if apart(in_batch, alone) > NEAR:
            raise SystemExit(f"{name}: row {number} is {in_batch} in a mixed batch but {alone} alone")


def apart(found: Classification, wanted: Classification) -> float:
    """Return the largest difference of two answers' scores."""
    return max(abs(found.scores[label] - score) for label, score in wanted.scores.items())


def rates(rows: int, samples_us: Sequence[float]) -> tuple[float, ...]:
    """Return rows per second."""
    return tuple(1e6 * rows / sample for sample in samples_us)


def measure_case(case: Case, texts: Sequence[str], plan: Plan) -> Measured:
    """Measure all variants for one kind and engine."""
    runtime, tasks = case.runtime, list(case.tasks)
    rows = list(texts[:TASKS])
    alone = [runtime.classify(text, task) for text, task in zip(rows, tasks, strict=True)]
    require_equal(case.name, runtime.classify(rows, tasks), alone)
    stream = list(texts[:STREAM_ROWS])
    random = np.random.default_rng(0)
    stream_tasks = [tasks[number] for number in random.integers(TASKS, size=len(stream))]

    def as_they_come() -> None:
        for start in range(0, len(stream), TASKS):
            runtime.classify(stream[start : start + TASKS], stream_tasks[start : start + TASKS])

    def apart_by_task() -> None:
        for task, own in by_task(stream, stream_tasks).items():
            runtime.classify(own, task)

    def one_at_a_time() -> None:
        for text, task in zip(rows, tasks, strict=True):
            runtime.classify(text, task)

    mixed, single = ratios_to_neighbours(
        lambda: runtime.classify(rows, tasks),
        lambda: runtime.classify(rows, tasks[-1]),
        plan.rounds,
        most_warm_up_rounds=plan.warm_up_rounds,
    )
    ways: dict[str, tuple[int, Callable[[], object]]] = {
        ONE: (len(rows), one_at_a_time),
        AS_THEY_COME: (len(stream), as_they_come),
        BY_TASK: (len(stream), apart_by_task),
    }
    if runtime.task(tasks[0]).virtual_tokens < runtime.task(tasks[-1]).virtual_tokens:
        ways[SHORTEST] = (len(rows), lambda: runtime.classify(rows, tasks[0]))
    found = interleaved_us(
        {way: action for way, (_, action) in ways.items()},
        max(2, plan.rounds // 4),
        most_warm_up_rounds=plan.warm_up_rounds,
    )
    given = {MIXED: rates(len(rows), mixed), SINGLE: rates(len(rows), single)}
    given |= {way: rates(ways[way][0], samples) for way, samples in found.items()}
    return published(case.name, given)


def published(name: str, given: Mapping[str, tuple[float, ...]]) -> Measured:
    """Return rows per second of each variant, by its name, as results."""

    def ratio(top: str, bottom: str, *, paired: bool, goal: float | None = None) -> Ratio:
        return Ratio(f"{name}: {top} over {bottom}", f"{name}: {top}", f"{name}: {bottom}", paired, goal, at_least=True)

    ratios = [ratio(MIXED, SINGLE, paired=True, goal=GOAL), ratio(MIXED, ONE, paired=False)]
    if BY_TASK in given:
        ratios.append(ratio(AS_THEY_COME, BY_TASK, paired=True))
    return Measured(
        tuple(
            Series(f"{name}: {way}", "rows/s", samples, line=way, higher_is_better=True)
            for way, samples in given.items()
        ),
        tuple(ratios),
        (Chart(f"{name}: rows per second", tuple(f"{name}: {way}" for way in given)),),
    )


def measure_texts(
    bundle: Path, texts: Sequence[str], plan: Plan, threads: int, lengths: Mapping[str, Sequence[int]] = LENGTHS
) -> Measured:
    """Measure both engines and both kinds, with prompts of equal and of mixed lengths."""
    found = []
    for engine in ENGINES:
        runtime = Runtime(bundle, engine, threads)
        for kind in plan.kinds:
            for what, some in lengths.items():
                with tempfile.TemporaryDirectory() as folder:
                    tasks = write_tasks(bundle, Path(folder), kind, some)
                    runtime.load_all(folder)
                found.append(measure_case(Case(f"{engine}, {kind}, {what} lengths", runtime, tasks), texts, plan))
    return together(found)


def measure_language(bundle: Path, rounds: int, threads: int, virtual_tokens: int, most_tokens: int) -> Measured:
    """Measure a language model that continues rows by some tokens, under soft prompts of one length."""
    manifest = read_bundle(bundle).manifest
    random = np.random.default_rng(0)
    rows = random.integers(most_tokens // 100, most_tokens, (TASKS, REQUEST_TOKENS)).tolist()
    shape = [virtual_tokens if axis is None else axis for axis in manifest.kinds["soft"]]
    tasks = [f"task{number}" for number in range(TASKS)]
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for task in tasks:
            array = 0.1 * random.standard_normal(shape, dtype=np.float32)
            write_prompt(Path(folder) / f"{task}.npy", array, "soft", manifest.backbone.fingerprint)
        for engine in ENGINES:
            runtime = Runtime(bundle, engine, threads)
            runtime.load_all(folder)
            found.append(measure_generation(f"{engine}, language model, soft", runtime, rows, tasks, rounds))
    return together(found)


def measure_generation(name: str, runtime: Runtime, rows: list[list[int]], tasks: list[str], rounds: int) -> Measured:
    """Measure a mixed batch, a batch of one task, and rows one at a time, on one engine."""

    def ask(some: list[list[int]], task: str | list[str]) -> list[tuple[int, ...]]:
        answers = runtime.generate(some, task, max_new_tokens=NEW_TOKENS, temperature=0.0, ignore_eos=True)
        return [tuple(answer.tokens) for answer in (answers if isinstance(answers, list) else [answers])]

    def one_at_a_time() -> list[tuple[int, ...]]:
        return [ask([row], task)[0] for row, task in zip(rows, tasks, strict=True)]

    mixed_tokens, alone = ask(rows, tasks), one_at_a_time()
    lengths = {len(tokens) for tokens in [*mixed_tokens, *ask(rows, tasks[-1])]}
    if lengths != {NEW_TOKENS}:
        raise SystemExit(f"{name}: texts have {sorted(lengths)} tokens instead of {NEW_TOKENS}")
    if mixed_tokens != alone:
        raise SystemExit(f"{name}: a mixed batch gives {mixed_tokens}, but its rows alone give {alone}")
    mixed, single = ratios_to_neighbours(
        lambda: ask(rows, tasks), lambda: ask(rows, tasks[-1]), rounds, most_warm_up_rounds=3
    )
    found = interleaved_us({ONE: one_at_a_time}, max(2, rounds // 2), most_warm_up_rounds=1)
    given = {MIXED: rates(TASKS, mixed), SINGLE: rates(TASKS, single), ONE: rates(TASKS, found[ONE])}
    return published(name, given)


def together(parts: Sequence[Measured]) -> Measured:
    """Join results; ratios with goals come first."""
    ratios = [ratio for part in parts for ratio in part.ratios]
    return Measured(
        tuple(series for part in parts for series in part.series),
        tuple(sorted(ratios, key=lambda ratio: ratio.goal is None)),
        tuple(chart for part in parts for chart in part.charts),
    )


@click.command()
@options
def main(*, quick: bool, threads: int, output: Path) -> None:
    """Measure and publish."""
    warnings.simplefilter("ignore", TruncationWarning)
    plan = QUICK if quick else FULL
    settings = {**plan._asdict(), "threads": threads}
    texts = [example.text for example in text_task("reuters").test[:STREAM_ROWS]]

    def measure() -> Measured:
        found = measure_texts(minilm_bundle(), texts, plan, threads)
        notes: tuple[str, ...] = ("all-MiniLM-L6-v2 has its own weights; prompts and heads are random.",)
        if plan.language_rounds:
            language = measure_language(
                smollm2_bundle(), plan.language_rounds, threads, LANGUAGE_VIRTUAL_TOKENS, 40_000
            )
            found = together([found, language])
            notes += ("SmolLM2-135M-Instruct is de-quantised from 4 bits; its prompts are random.",)
        else:
            notes += ("With --quick, neither the language model nor soft prompts are measured.",)
        return found._replace(notes=notes)

    publish(__file__, __doc__, output, settings, measure)


if __name__ == "__main__":
    main()
