"""How fast is generation?

    python benchmarks/questions/generation.py                          # makes the peers' environments and models first
    python benchmarks/questions/generation.py --rounds 15 --loads 3 --only int4

Compared with the pipelines that people would use instead, and with the limit set by memory bandwidth.

The network is SmolLM2-135M-Instruct (de-quantised from 4 bits), greedy, 28 tokens in, 64 out. Every variant is a
process that only loads and generates, and is stopped while it waits for its turn. In each round all variants of the
same weights answer the same request, in an order that changes, and memory bandwidth is measured in between. Before
that, all variants with fp32 weights must generate the same tokens; those with a prompt or LoRA are compared among
themselves.

- Load: until the pipeline accepts a request, without starting the interpreter and importing; the median over processes.
- Cold: load, and the first token of the first request.
- First token: from the call to the token. Decode: the other tokens, until the call returns.
- Relative to the limit: decoding speed over memory bandwidth divided by the bytes of weights that a token reads.
- Peak: peak resident memory of the process, including its libraries.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from benchmarks.lib.publish import Measured, options, publish
from benchmarks.peers import report
from benchmarks.peers.prepare import prepare
from benchmarks.peers.process import Worker, WorkerError
from benchmarks.peers.report import Figures
from benchmarks.peers.results import Sample, differing
from benchmarks.peers.variants import VARIANTS, Variant, arguments_of, graph_of, missing
from benchmarks.peers.weights import bytes_read
from benchmarks.peers.workers.protocol import THREADS_VARIABLE
from edge_prompt_runtime.bench.timing import in_turn

REQUEST_TOKENS, NEW_TOKENS, CHECKS, WARM_UP_ROUNDS = 28, 64, 3, 1
BANDWIDTH = "memory"
QUICK = ("edge-prompt on ONNX Runtime int8", "ONNX Runtime GenAI int8")

Running = dict[Variant, Worker]


def request(seed: int) -> dict[str, Any]:
    """Return a request of random tokens."""
    tokens: list[int] = np.random.default_rng(seed).integers(100, 40_000, REQUEST_TOKENS).tolist()
    return {"tokens": tokens, "new_tokens": NEW_TOKENS}


def sample(worker: Worker, seed: int) -> Sample:
    """Send a request to the worker and return the sample."""
    answer = worker.ask(request(seed))
    return Sample(tuple(answer["tokens"]), answer["first_ms"], answer["all_ms"])


def start(variant: Variant) -> Worker:
    """Load a variant in a process of its own."""
    return Worker(variant.name, variant.module, variant.peer, arguments_of(variant))


def able(variants: Iterable[Variant], left_out: dict[str, str]) -> list[Variant]:
    """Return the variants that load and generate, having read their files.

    Why others do not goes to `left_out`.
    """
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
    """Return the milliseconds of loading, and until the first token of the first request, in a process of its own."""
    with start(variant) as worker:
        return worker.load_ms, worker.load_ms + sample(worker, 0).first_ms


def load_times(variants: Sequence[Variant], times: int) -> dict[Variant, list[tuple[float, float]]]:
    """Time loading in that many processes per variant; see `cold`."""
    by_name = in_turn({variant.name: partial(cold, variant) for variant in variants}, times, warm_up_rounds=0)
    return {variant: by_name[variant.name] for variant in variants}


def check(running: Running) -> list[str]:
    """Return a sentence per fp32 variant whose tokens differ from those it must equal."""
    full = [variant for variant in running if variant.weights == "fp32"]
    said = {variant: [sample(running[variant], seed).tokens for seed in range(CHECKS)] for variant in full}
    found = []
    for adapter in dict.fromkeys(variant.adapter for variant in full):
        found += differing({variant.name: said[variant] for variant in full if variant.adapter == adapter})
    return found


def measure(running: Running, memory: Worker, rounds: int) -> tuple[dict[Variant, list[Sample]], list[float]]:
    """Return the samples of every variant and the memory bandwidth in bytes per second, round by round."""

    def asked(variant: Variant) -> Callable[[], Sample]:
        seeds = itertools.count(CHECKS)
        return lambda: sample(running[variant], next(seeds))

    def read() -> float:
        return float(memory.ask({})["bytes_per_second"])

    actions: dict[str, Callable[[], Any]] = {variant.name: asked(variant) for variant in running} | {BANDWIDTH: read}
    found = in_turn(actions, rounds, WARM_UP_ROUNDS)
    return {variant: found[variant.name] for variant in running}, found[BANDWIDTH]


def chosen(only: Sequence[str]) -> list[Variant]:
    """Return the variants whose names contain one of these texts; all if there are none."""
    return [variant for variant in VARIANTS if not only or any(text in variant.name for text in only)]


def figures_of(variants: Sequence[Variant], rounds: int, loads: int, *, equal: bool) -> tuple[list[Figures], list[str]]:
    """Measure variants of the same weights; also return where the tokens of fp32 variants differ.

    Raises:
        SystemExit: They differ, and `equal` is set.
    """
    times = load_times(variants, loads)
    with ExitStack() as stack:
        running = {variant: stack.enter_context(start(variant)) for variant in variants}
        different = check(running)
        if different and equal:
            raise SystemExit("\n".join(f"NOT EQUAL: {sentence}" for sentence in different))
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
            bandwidth,
        )
        for variant in running
    ]
    return figures, different


def measured(
    variants: Sequence[Variant], rounds: int, loads: int, left_out: dict[str, str], *, equal: bool
) -> Measured:
    """Measure all variants that are `able`, those of the same weights together.

    Running all at once would take so much memory that the system evicts weights which processes map from files, and the
    next first token would wait for the disk.
    """
    figures: list[Figures] = []
    different: list[str] = []
    for weights in dict.fromkeys(variant.weights for variant in variants):
        own = [variant for variant in variants if variant.weights == weights]
        found, not_equal = figures_of(own, rounds, loads, equal=equal)
        figures += found
        different += not_equal
    notes = (
        "Network: SmolLM2-135M-Instruct de-quantised from 4 bits; prompts are token embeddings, LoRAs are random.",
        f"{REQUEST_TOKENS} random tokens in, {NEW_TOKENS} out, greedy; new tokens in every round.",
        *(f"Timed despite a difference: {sentence}." for sentence in different),
    )
    return report.measured(figures, left_out).and_also(Measured((), notes=notes))


@click.command()
@click.option("--rounds", type=click.IntRange(1), help="Rounds.  [default: 4]")
@click.option("--loads", type=click.IntRange(1), help="Processes per variant whose loading is timed.  [default: 2]")
@click.option("--only", multiple=True, help="Only variants whose name contains this; repeatable.")
@click.option("--prepared", is_flag=True, help="Do not create missing environments and models of peers.")
@click.option("--despite-differences", is_flag=True, help="Continue if fp32 variants generate different tokens.")
@options
def main(
    *,
    rounds: int | None,
    loads: int | None,
    only: tuple[str, ...],
    prepared: bool,
    despite_differences: bool,
    quick: bool,
    threads: int,
    output: Path,
) -> None:
    """Measure and publish."""
    os.environ[THREADS_VARIABLE] = str(threads)
    only, rounds, loads = only or (QUICK if quick else ()), rounds or (2 if quick else 4), loads or (1 if quick else 2)
    left_out = {} if quick or prepared else {f"variants that need {name}": why for name, why in prepare().items()}
    settings = {"rounds": rounds, "loads": loads, "only": only, "threads": threads}

    def run() -> Measured:
        variants = able(chosen(only), left_out)
        return measured(variants, rounds, loads, left_out, equal=not despite_differences)

    publish(__file__, __doc__, output, settings, run)


if __name__ == "__main__":
    main()
