"""What does the micro-batcher bring with many callers, compared with one request at a time and batching by task?

    python benchmarks/questions/batching.py

16 clients each send one text after another and wait for the answer, with one of 8 tasks at random. Measured are
requests per second and the latencies of clients. "One at a time" is a lock around the runtime, "a thread per client"
the runtime without one, "batching by task" one batcher per task, each without the others' requests. The variants take
turns in one process, in an order that changes every round. Before that, each must give the same answers as the runtime
alone. Network: all-MiniLM-L6-v2; tasks: prefixes of 4 to 32 virtual tokens, each with a head; texts: the test split of
Reuters R8, truncated to 64 tokens.
"""

from __future__ import annotations

import itertools
import random
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Lock

import click
import numpy as np

from benchmarks.lib.bundles import minilm_bundle
from benchmarks.lib.publish import Measured, options, publish
from edge_prompt import Head, write_prompt
from edge_prompt_runtime import Classification, Runtime, TruncationWarning
from edge_prompt_runtime.bench.results import Chart, Ratio, Series
from edge_prompt_runtime.bench.timing import in_turn
from edge_prompt_runtime.engines.base import ENGINES
from edge_prompt_runtime.serving import Batcher
from examples.real_data import text_task

TASKS, CLIENTS, MAX_TOKENS, CHECKED = 8, 16, 64, 64
LENGTHS = (4, 8, 16, 32)
NEAR = 1e-4
BASE, RATE, LATENCY = "one at a time", "requests per second", "latency"

Ask = Callable[[str, str], Classification]


def write_tasks(folder: Path, runtime: Runtime) -> None:
    """Write prefixes of different lengths, with heads."""
    manifest = runtime.bundle.manifest
    for number in range(TASKS):
        numbers = np.random.default_rng(number)
        shape = [LENGTHS[number % len(LENGTHS)] if axis is None else axis for axis in manifest.kinds["prefix"]]
        head = Head(
            numbers.standard_normal((4, manifest.backbone.feature_size), dtype=np.float32), np.zeros(4, np.float32)
        )
        write_prompt(
            folder / f"task{number}.npy",
            numbers.standard_normal(shape, dtype=np.float32),
            "prefix",
            manifest.backbone.fingerprint,
            head=head,
            labels=("north", "east", "south", "west"),
            max_tokens=MAX_TOKENS,
        )


@contextmanager
def ways_of(runtime: Runtime, clients: int) -> Iterator[Mapping[str, Ask]]:
    """Yield the ways to answer requests, by name."""
    lock = Lock()

    def one_at_a_time(text: str, task: str) -> Classification:
        with lock:
            return runtime.classify(text, task)

    with ExitStack() as stack:
        batcher = stack.enter_context(Batcher(runtime, max_rows=clients))
        by_task = {task: stack.enter_context(Batcher(runtime, max_rows=clients)) for task in runtime.tasks}
        yield {
            BASE: one_at_a_time,
            "a thread per client": runtime.classify,
            "batching by task": lambda text, task: by_task[task](text, task),
            "the batcher": batcher,
        }


def serve(ask: Ask, texts: Sequence[str], tasks: Sequence[str], clients: int, seconds: float) -> list[float]:
    """Return the latency in milliseconds of each request that clients made in that many seconds."""
    end = time.perf_counter() + seconds

    def client(seed: int) -> list[float]:
        chance, latencies = random.Random(seed), []
        while (start := time.perf_counter()) < end:
            ask(chance.choice(texts), chance.choice(tasks))
            latencies.append((time.perf_counter() - start) * 1000)
        return latencies

    with ThreadPoolExecutor(clients) as pool:
        return [latency for latencies in pool.map(client, range(clients)) for latency in latencies]


def require_equal(ways: Mapping[str, Ask], runtime: Runtime, texts: Sequence[str], clients: int) -> None:
    """Stop before timing if a way of answering gives other answers than the runtime alone."""
    rows = [(text, runtime.tasks[number % len(runtime.tasks)]) for number, text in enumerate(texts[:CHECKED])]
    alone = [runtime.classify(*row) for row in rows]
    for name, ask in ways.items():
        with ThreadPoolExecutor(clients) as pool:
            for row, found, wanted in zip(rows, pool.map(ask, *zip(*rows, strict=True)), alone, strict=True):
                if max(abs(found.scores[label] - score) for label, score in wanted.scores.items()) > NEAR:
                    raise SystemExit(f"{name}: the answer to {row} is {found}, but {wanted} from the runtime alone")


def compare(
    runtime: Runtime, texts: Sequence[str], clients: int, rounds: int, seconds: float
) -> dict[str, list[list[float]]]:
    """Return the latencies in milliseconds per way and round."""
    with ways_of(runtime, clients) as ways:
        require_equal(ways, runtime, texts, clients)
        timed = {name: lambda ask=ask: serve(ask, texts, runtime.tasks, clients, seconds) for name, ask in ways.items()}
        return in_turn(timed, rounds, warm_up_rounds=1)


def measured_on(engine: str, found: Mapping[str, list[list[float]]], seconds: float) -> Measured:
    """Requests per second of each round, latencies of all requests, and ratios to one at a time, round by round."""

    def named(way: str, what: str) -> str:
        return f"{engine}, {way}: {what}"

    series = []
    for way, rounds in found.items():
        rates = tuple(len(latencies) / seconds for latencies in rounds)
        latencies = tuple(itertools.chain.from_iterable(rounds))
        series += [
            Series(named(way, RATE), "requests/s", rates, line=engine, higher_is_better=True),
            Series(named(way, LATENCY), "ms", latencies, line=engine),
        ]
    others = [way for way in found if way != BASE]
    return Measured(
        tuple(series),
        tuple(
            Ratio(f"{engine}: {way} over {BASE}, {RATE}", named(way, RATE), named(BASE, RATE), at_least=True)
            for way in others
        ),
        (
            Chart(f"{engine}: {RATE}", tuple(named(way, RATE) for way in found)),
            Chart(f"{engine}: {LATENCY} of clients", tuple(named(way, LATENCY) for way in found)),
        ),
    )


def measure(bundle: Path, texts: Sequence[str], clients: int, rounds: int, seconds: float, threads: int) -> Measured:
    """Measure all engines, one after the other."""
    found = Measured(())
    for engine in ENGINES:
        runtime = Runtime(bundle, engine, threads)
        with tempfile.TemporaryDirectory() as name:
            write_tasks(Path(name), runtime)
            runtime.load_all(name)
        more = measured_on(engine, compare(runtime, texts, clients, rounds, seconds), seconds)
        found = Measured(found.series + more.series, found.ratios + more.ratios, found.charts + more.charts)
    return found._replace(notes=("Network: all-MiniLM-L6-v2 with its own weights; prompts and heads are random.",))


@click.command()
@options
@click.option("--clients", default=CLIENTS, show_default=True, help="Concurrent clients.")
def main(*, quick: bool, threads: int, output: Path, clients: int) -> None:
    """Measure and publish."""
    warnings.simplefilter("ignore", TruncationWarning)
    rounds, seconds = (1, 0.5) if quick else (3, 4.0)
    settings = {"clients": clients, "rounds": rounds, "seconds": seconds, "threads": threads}
    texts = [example.text for example in text_task("reuters").test]
    publish(
        __file__,
        __doc__,
        output,
        settings,
        lambda: measure(minilm_bundle(), texts, clients, rounds, seconds, threads),
    )


if __name__ == "__main__":
    main()
