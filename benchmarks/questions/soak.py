"""Does the runtime ever answer with the wrong task, under many threads, many tasks and a writer that replaces prompts?

    python benchmarks/questions/soak.py --requests 100000
    python benchmarks/questions/soak.py --engine onnxruntime --minutes 60

MiniLM serves a folder of 200 prompts of every kind and of many lengths, with and without heads. The memory budget holds
only some of them, so tasks are loaded and evicted. A writer replaces prompts with others and back, and refreshes. A
request has one text, or several under different tasks. Every answer is compared with the known answer of its task, or
with either of two where the writer replaces prompts. Memory is read ten times.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Event, Lock, Thread

import click
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.lib.bundles import minilm_bundle
from edge_prompt import EdgePromptError, Head, read_bundle, write_prompt
from edge_prompt.formats.manifest import Manifest
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.bench.machine import resident_bytes
from edge_prompt_runtime.engines.base import ENGINES

TASKS, REPLACED, THREADS, LOOKS = 200, 50, 8, 10
BUDGET_BYTES = 8 << 20
KINDS = ("soft", "prefix")
TEXTS = ("a fine film", "the oil price rose after the meeting", "buy now", "who is there?")
NEAR = 1e-4
"""Largest allowed distance of a row in a batch to the row alone; tasks are hundreds of times further apart."""

Float32 = NDArray[np.float32]
Known = Mapping[str, Sequence[Float32]]
"""By task, the features `[texts, feature_size]` under each of its prompts."""


def write_task(folder: Path, number: int, version: int, manifest: Manifest) -> None:
    """Write a version of a task; its number determines kind and length."""
    name, kind, virtual_tokens = f"task{number:03}", KINDS[number % 2], 1 + number % 37
    shape = [virtual_tokens if length is None else length for length in manifest.kinds[kind]]
    feature_size = manifest.backbone.feature_size
    random = np.random.default_rng([number, version])
    array = random.standard_normal(shape, dtype=np.float32) * np.float32(0.5)
    head, labels = None, tuple(f"{name}_{index}" for index in range(3 if number % 3 else 0))
    if labels:
        head = Head(random.standard_normal((3, feature_size), dtype=np.float32), np.zeros(3, np.float32))
    fingerprint = manifest.backbone.fingerprint
    write_prompt(folder / f"{name}.npy", array, kind, fingerprint, head=head, labels=labels)


def write_tasks(folders: Sequence[Path], manifest: Manifest) -> None:
    """Write all tasks into one folder per version; tasks that are never replaced are the same in all."""
    for number in range(TASKS):
        for version, folder in enumerate(folders):
            write_task(folder, number, version if number < REPLACED else 0, manifest)


def known_answers(bundle: Path, versions: Sequence[Path], engine: str) -> Known:
    """Return the answers of every task alone, under each version of its prompt."""
    runtimes = [Runtime(bundle, engine, threads=2, prompts=folder) for folder in versions]
    return {
        name: [np.stack([runtime.embed(text, task=name) for text in TEXTS]) for runtime in runtimes]
        for name in runtimes[0].tasks
    }


def least_distance(known: Known) -> float:
    """Return the least distance between the answers of any two tasks."""
    answers = np.stack([features.ravel() for versions in known.values() for features in versions])
    distances = np.abs(answers[:, None] - answers[None]).max(-1)
    different = ~np.eye(len(answers), dtype=bool)
    if len(known) < len(answers):  # a task that is never replaced has its one answer twice
        for task, versions in enumerate(known.values()):
            start = task * len(versions)
            different[start : start + len(versions), start : start + len(versions)] = False
    return float(distances[different].min())


class Soak:
    """One run.

    Args:
        runtime: A runtime that serves the folder being written.
        known: The known answers of tasks.
        asked: Number of requests; None runs until `seconds` have passed.
        seconds: Duration if there is no number of requests.
    """

    def __init__(self, runtime: Runtime, known: Known, asked: int | None, seconds: float) -> None:
        self.runtime = runtime
        self.known = known
        self.counts: Counter[str] = Counter()
        self.looks: list[tuple[float, int, int]] = []
        self._asked, self._seconds = asked, seconds
        self._lock = Lock()
        self._begun = time.monotonic()
        self._done = Event()

    @property
    def share_done(self) -> float:
        """The completed share of the run, 0 to 1."""
        if self._asked is not None:
            return self.counts["requests"] / self._asked
        return (time.monotonic() - self._begun) / self._seconds

    def ask(self, seed: int) -> None:
        """Send requests until the run is over."""
        random, names = np.random.default_rng(seed), tuple(self.known)
        while self.share_done < 1:
            rows = int(random.choice([1, 1, 1, 3]))
            tasks = [names[number] for number in random.integers(len(names), size=rows)]
            texts = random.integers(len(TEXTS), size=rows)
            found = self._answers([TEXTS[text] for text in texts], tasks)
            wrong = sum(
                not any(np.abs(row - version[text]).max() <= NEAR for version in self.known[task])
                for row, task, text in zip(found, tasks, texts, strict=True)
            )
            with self._lock:
                self.counts.update(requests=1, rows=rows, wrong=wrong, lost=rows - len(found))

    def _answers(self, texts: list[str], tasks: list[str]) -> Float32:
        """Answer a request; one that meets a half-written prompt is repeated."""
        while True:
            try:
                return self.runtime.embed(texts, task=tasks)
            except EdgePromptError:
                with self._lock:
                    self.counts["repeated requests"] += 1
                    if self.counts["repeated requests"] > 1000 + self.counts["requests"]:
                        raise

    def replace(self, folder: Path) -> None:
        """Replace prompts until the run is over."""
        version = 0
        while not self._done.is_set():
            version = 1 - version
            for number in range(REPLACED):
                write_task(folder, number, version, self.runtime.bundle.manifest)
                found = self.runtime.refresh()
                self.counts.update(written=1, refreshed=len(found.replaced), refused=len(found.refused))
                if self._done.wait(0.01):
                    return

    def look(self) -> None:
        """Read the memory ten times."""
        while not self._done.is_set():
            if self.share_done >= len(self.looks) / LOOKS:
                self.looks.append((time.monotonic() - self._begun, self.counts["requests"], resident_bytes()))
            self._done.wait(0.2)

    def run(self, folder: Path) -> float:
        """Run; return the seconds it took."""
        clients = [Thread(target=self.ask, args=(seed,)) for seed in range(THREADS)]
        others = [Thread(target=self.replace, args=(folder,)), Thread(target=self.look)]
        for thread in (*clients, *others):
            thread.start()
        for thread in clients:
            thread.join()
        seconds = time.monotonic() - self._begun
        self._done.set()
        for thread in others:
            thread.join()
        return seconds


def show(engine: str, soak: Soak, seconds: float) -> None:
    """Print the outcome."""
    counts, stats = soak.counts, soak.runtime.stats()
    table = Table(f"{engine}, {seconds:,.0f} s", "")
    for name in ("requests", "rows", "wrong", "lost", "repeated requests", "written", "refreshed", "refused"):
        table.add_row(name, f"{counts[name]:,}")
    table.add_row("requests per second", f"{counts['requests'] / seconds:,.0f}")
    table.add_row("prompts read, evicted", f"{stats.loads:,}, {stats.evictions:,}")
    for at, requests, resident in soak.looks:
        table.add_row(f"resident after {at:,.0f} s, {requests:,} requests", f"{resident / 1e6:,.1f} MB")
    Console().print(table)


@click.command()
@click.option("--engine", "engines", multiple=True, type=click.Choice(list(ENGINES)), default=list(ENGINES))
@click.option("--requests", type=int, help="Requests per engine.  [default: 100000, unless --minutes is given]")
@click.option("--minutes", type=float, help="Minutes per engine.")
@click.option("--bundle", type=click.Path(path_type=Path), help="[default: MiniLM, exported once into .cache]")
def main(engines: Sequence[str], requests: int | None, minutes: float | None, bundle: Path | None) -> None:
    """Print the outcome; the exit code is 1 if an answer was wrong or lost.

    Raises:
        SystemExit: An answer was wrong or lost.
    """
    asked = requests if requests is not None else None if minutes is not None else 100_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = bundle or minilm_bundle()
        versions = [folder / "first", folder / "second"]
        write_tasks(versions, read_bundle(bundle).manifest)
        bad = 0
        for engine in engines:
            known = known_answers(bundle, versions, engine)
            distance = least_distance(known)
            assert distance > 10 * NEAR, distance
            Console().print(f"{engine}: tasks are at least {distance:.3f} apart; answers may differ by {NEAR:g}")
            served = shutil.copytree(versions[0], folder / f"served_{engine}")
            runtime = Runtime(bundle, engine, threads=2, prompts=served, prompts_budget_bytes=BUDGET_BYTES)
            soak = Soak(runtime, known, asked, 60 * (minutes or 0))
            show(engine, soak, soak.run(served))
            bad += soak.counts["wrong"] + soak.counts["lost"]
    if bad:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
