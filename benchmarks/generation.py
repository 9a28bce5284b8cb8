"""How fast does a language model generate on a device? Beside the pipelines that people would pick instead.

    python benchmarks/peers/prepare.py    once
    python benchmarks/generation.py

SmolLM2-135M-Instruct (de-quantised from 4 bits), greedy, 28 tokens of request, 64 generated, two threads. Every variant
is a process of its own that only loads and generates, and stands still while it is not its turn. In each round every
variant answers the same request, in an order that changes, and what memory gives is measured in between. Before that
all variants of fp32 weights must generate the same tokens, those under the same prompt or LoRA among themselves.

- Load: until the pipeline can be asked, without the interpreter's start and imports; the median of some processes.
- Cold: load, and the first token of the first request.
- First token: from the call to the token. Decode: the other tokens, until the call is over.
- Of the limit: decode over the bandwidth of memory divided by the bytes of weights that a token reads.
- Peak: the most that was resident in the process, its libraries included.
"""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.console import Console

from benchmarks.measure import in_turn
from benchmarks.peers.process import Worker, WorkerError
from benchmarks.peers.report import Figures, show
from benchmarks.peers.results import Sample, differing
from benchmarks.peers.variants import VARIANTS, Variant, arguments_of, graph_of, missing
from benchmarks.peers.weights import bytes_read

REQUEST_TOKENS, NEW_TOKENS, CHECKS, WARM_UP_ROUNDS = 28, 64, 3, 1
BANDWIDTH = "memory"

Running = dict[Variant, Worker]


def request(seed: int) -> dict[str, Any]:
    """A request of random tokens."""
    tokens: list[int] = np.random.default_rng(seed).integers(100, 40_000, REQUEST_TOKENS).tolist()
    return {"tokens": tokens, "new_tokens": NEW_TOKENS}


def sample(worker: Worker, seed: int) -> Sample:
    """What the worker makes of a request."""
    answer = worker.ask(request(seed))
    return Sample(tuple(answer["tokens"]), answer["first_ms"], answer["all_ms"])


def start(variant: Variant) -> Worker:
    """Load a variant in a process of its own."""
    return Worker(variant.name, variant.module, variant.peer, arguments_of(variant))


def able(variants: Iterable[Variant], left_out: dict[str, str]) -> list[Variant]:
    """The variants that load and generate; why others do not goes to `left_out`. Their files were read after that."""
    found = []
    for variant in variants:
        reason = missing(variant)
        if reason is None:
            try:
                cold(variant)
                found.append(variant)
            except WorkerError as error:
                reason = str(error)
        if reason is not None:
            left_out[variant.name] = reason
    return found


def cold(variant: Variant) -> tuple[float, float]:
    """Milliseconds of loading, and until the first token of the first request, of a process of its own."""
    with start(variant) as worker:
        return worker.load_ms, worker.load_ms + sample(worker, 0).first_ms


def load_times(variants: Sequence[Variant], times: int) -> dict[Variant, list[tuple[float, float]]]:
    """Loading, of so many processes of each variant; see `cold`."""
    by_name = in_turn({variant.name: partial(cold, variant) for variant in variants}, times, warm_up_rounds=0)
    return {variant: by_name[variant.name] for variant in variants}


def check(running: Running) -> list[str]:
    """Where variants of fp32 weights that must generate the same tokens do not, in sentences."""
    full = [variant for variant in running if variant.weights == "fp32"]
    said = {variant: [sample(running[variant], seed).tokens for seed in range(CHECKS)] for variant in full}
    found = []
    for adapter in dict.fromkeys(variant.adapter for variant in full):
        found += differing({variant.name: said[variant] for variant in full if variant.adapter == adapter})
    return found


def measure(running: Running, memory: Worker, rounds: int) -> tuple[dict[Variant, list[Sample]], list[float]]:
    """The samples of every variant and the bandwidth of memory, in bytes a second, round by round."""

    def asked(variant: Variant) -> Callable[[], Sample]:
        seeds = itertools.count(CHECKS)
        return lambda: sample(running[variant], next(seeds))

    def read() -> float:
        return float(memory.ask({})["bytes_per_second"])

    actions: dict[str, Callable[[], Any]] = {variant.name: asked(variant) for variant in running} | {BANDWIDTH: read}
    found = in_turn(actions, rounds, WARM_UP_ROUNDS)
    return {variant: found[variant.name] for variant in running}, found[BANDWIDTH]


def chosen(only: Sequence[str]) -> list[Variant]:
    """The variants whose names have one of these texts in them; all if there are none."""
    return [variant for variant in VARIANTS if not only or any(text in variant.name for text in only)]


def write_samples(path: Path, figures: Sequence[Figures], bandwidth: Sequence[float], left_out: dict[str, str]) -> None:
    """Write everything that was measured as JSON."""
    variants = {
        one.variant.name: {
            "versions": one.versions,
            "weight_bytes_a_token": one.weight_bytes,
            "load_ms": one.load_ms,
            "cold_ms": one.cold_ms,
            "first_ms": [found.first_ms for found in one.samples],
            "all_ms": [found.all_ms for found in one.samples],
            "tokens": [found.tokens for found in one.samples],
            "peak_bytes": one.peak_bytes,
            "anonymous_bytes": one.anonymous_bytes,
        }
        for one in figures
    }
    value = {"bandwidth_bytes_per_second": list(bandwidth), "variants": variants, "left_out": left_out}
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


@click.command()
@click.option("--rounds", default=15, show_default=True)
@click.option("--loads", default=3, show_default=True, help="Processes of each variant whose loading is timed.")
@click.option("--only", multiple=True, help="Only variants with this in their name; may be given several times.")
@click.option("--json", "json_file", type=click.Path(path_type=Path, dir_okay=False), help="Write all samples here.")
@click.option("--despite-differences", is_flag=True, help="Go on if variants of fp32 weights generate other tokens.")
def main(rounds: int, loads: int, only: tuple[str, ...], json_file: Path | None, *, despite_differences: bool) -> None:
    """Print the tables.

    Raises:
        SystemExit: Variants of fp32 weights generate other tokens than each other.
    """
    left_out: dict[str, str] = {}
    variants = able(chosen(only), left_out)
    times = load_times(variants, loads)
    with ExitStack() as stack:
        running = {variant: stack.enter_context(start(variant)) for variant in variants}
        different = check(running)
        for sentence in different:
            Console().print(f"NOT EQUAL: {sentence}")
        if different and not despite_differences:
            raise SystemExit(1)
        memory = stack.enter_context(Worker(BANDWIDTH, "bandwidth", None, ()))
        samples, bandwidth = measure(running, memory, rounds)
        versions = {variant: worker.versions for variant, worker in running.items()}
        took = {variant: worker.stop() for variant, worker in running.items()}
    figures = [
        Figures(
            variant,
            versions[variant],
            bytes_read(graph_of(variant)),
            [load for load, _ in times[variant]],
            [cold for _, cold in times[variant]],
            samples[variant],
            took[variant]["peak_bytes"],
            took[variant]["anonymous_bytes"],
        )
        for variant in running
    ]
    if json_file is not None:
        write_samples(json_file, figures, bandwidth, left_out)
    show(figures, statistics.median(bandwidth), left_out)


if __name__ == "__main__":
    main()
