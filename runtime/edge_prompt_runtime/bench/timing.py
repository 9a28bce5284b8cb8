"""Timing: warmed-up variants take turns in one process, in a random order."""

from __future__ import annotations

import gc
import random
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter_ns, process_time_ns
from typing import TypeVar

Found = TypeVar("Found")

WARM_UP_ROUNDS = 3
"""The number of warm-up rounds, which are not counted."""

MOST_WARM_UP_ROUNDS = 30
STABLE_WITHIN = 0.05
"""Variants are warm when the medians of the last three rounds and of the three before differ by at most this share."""

CLOCKS = {"wall": perf_counter_ns, "cpu": process_time_ns}
"""The clocks: wall time, or the processor time of this process. Processor time is more reliable on a shared machine if
engines use one thread; with several threads, it includes busy waiting."""


def in_turn(
    variants: Mapping[str, Callable[[], Found]],
    rounds: int,
    warm_up_rounds: int = WARM_UP_ROUNDS,
    after_round: Callable[[], object] = lambda: None,
) -> dict[str, list[Found]]:
    """Call every variant once per round, after some warm-up rounds, with garbage collection disabled.

    The order changes every round, because a variant that runs after a long one finds cold caches.

    Args:
        variants: The functions to call, by name.
        rounds: The number of rounds that count.
        warm_up_rounds: The number of rounds before them that do not count.
        after_round: A function to call after each round that counts, for example to show progress.

    Returns:
        The results of each variant, one per round that counts.
    """
    order = list(variants.items())
    shuffler = random.Random(0)
    found: dict[str, list[Found]] = {name: [] for name in variants}
    with without_garbage_collection():
        for number in range(warm_up_rounds + rounds):
            shuffler.shuffle(order)
            for name, action in order:
                given = action()
                if number >= warm_up_rounds:
                    found[name].append(given)
            if number >= warm_up_rounds:
                after_round()
    return found


def interleaved_us(
    variants: Mapping[str, Callable[[], object]],
    rounds: int,
    clock: Callable[[], int] = perf_counter_ns,
    most_warm_up_rounds: int = MOST_WARM_UP_ROUNDS,
) -> dict[str, tuple[float, ...]]:
    """Time every variant once per round in microseconds, after warming up; see `in_turn`."""
    timed = {name: _timed(action, clock) for name, action in variants.items()}
    warm_up(timed, min(most_warm_up_rounds, warm_up_rounds_for(rounds)))
    return {name: tuple(samples) for name, samples in in_turn(timed, rounds, warm_up_rounds=0).items()}


def warm_up(timed: Mapping[str, Callable[[], float]], most_rounds: int = MOST_WARM_UP_ROUNDS) -> int:
    """Run rounds until their times are stable, at most `most_rounds`, and return the number of rounds."""
    found: dict[str, list[float]] = {name: [] for name in timed}
    for number in range(1, most_rounds + 1):
        for name, action in timed.items():
            found[name].append(action())
        if number >= 2 * WARM_UP_ROUNDS and all(map(_stable, found.values())):
            break
    return number


def warm_up_rounds_for(rounds: int) -> int:
    """Return the maximum number of warm-up rounds before `rounds` measured rounds: at most as many, but enough."""
    return min(MOST_WARM_UP_ROUNDS, max(2 * WARM_UP_ROUNDS, rounds))


def ratios_to_neighbours(
    action: Callable[[], object],
    base: Callable[[], object],
    rounds: int,
    clock: Callable[[], int] = perf_counter_ns,
    most_warm_up_rounds: int = MOST_WARM_UP_ROUNDS,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Time each run of `action` in microseconds, and return it with the mean of `base` just before and just after.

    Variations in the speed of the machine affect both alike, so their ratios detect differences of a few percent that
    overall medians do not.
    """
    run, run_base = _timed(action, clock), _timed(base, clock)
    warm_up({"action": run, "base": run_base}, min(most_warm_up_rounds, warm_up_rounds_for(rounds)))
    before, tops, bottoms = run_base(), [], []
    with without_garbage_collection():
        for _ in range(rounds):
            tops.append(run())
            after = run_base()
            bottoms.append((before + after) / 2)
            before = after
    return tuple(tops), tuple(bottoms)


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Disable garbage collection in the block."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _timed(action: Callable[[], object], clock: Callable[[], int]) -> Callable[[], float]:
    def elapsed_us() -> float:
        start = clock()
        action()
        return (clock() - start) / 1000

    return elapsed_us


def _stable(samples: list[float]) -> bool:
    before = statistics.median(samples[-2 * WARM_UP_ROUNDS : -WARM_UP_ROUNDS])
    last = statistics.median(samples[-WARM_UP_ROUNDS:])
    return abs(last - before) <= STABLE_WITHIN * before
