"""How things are timed: variants take turns in one process, in an order that changes, once they are warm."""

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
"""Rounds that never count."""

MOST_WARM_UP_ROUNDS = 30
STABLE_WITHIN = 0.05
"""Variants are warm when the medians of the last three rounds and of the three before are no further apart."""

CLOCKS = {"wall": perf_counter_ns, "cpu": process_time_ns}
"""What is counted: time that passes, or time that processors spend on this process. The latter says more on a machine
that others use, too, if engines are given one thread: with several, threads that wait for others are counted."""


def in_turn(
    variants: Mapping[str, Callable[[], Found]],
    rounds: int,
    warm_up_rounds: int = WARM_UP_ROUNDS,
    after_round: Callable[[], object] = lambda: None,
) -> dict[str, list[Found]]:
    """Call every variant once a round, after rounds that do not count; the garbage collector waits meanwhile.

    The order changes every round: what runs after a long variant finds cold caches, which must not always hit the same.

    Args:
        variants: What to call, by name.
        rounds: How many rounds count.
        warm_up_rounds: How many before them do not.
        after_round: Called after each round that counts, such as to show how far it is.

    Returns:
        What each variant gave in each round that counts.
    """
    order = list(variants.items())
    shuffler = random.Random(0)
    found: dict[str, list[Found]] = {name: [] for name in variants}
    with uncollected():
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
    """The microseconds of every variant once a round, after as many rounds as it takes to be warm; see `in_turn`."""
    timed = {name: _timed(action, clock) for name, action in variants.items()}
    warm_up(timed, min(most_warm_up_rounds, warm_up_rounds_for(rounds)))
    return {name: tuple(samples) for name, samples in in_turn(timed, rounds, warm_up_rounds=0).items()}


def warm_up(timed: Mapping[str, Callable[[], float]], most_rounds: int = MOST_WARM_UP_ROUNDS) -> int:
    """Run rounds until what they take is stable, or for `most_rounds`; returns how many it took."""
    found: dict[str, list[float]] = {name: [] for name in timed}
    for number in range(1, most_rounds + 1):
        for name, action in timed.items():
            found[name].append(action())
        if number >= 2 * WARM_UP_ROUNDS and all(map(_stable, found.values())):
            break
    return number


def warm_up_rounds_for(rounds: int) -> int:
    """How many rounds may warm up what is then measured for `rounds`: no more than these, but enough to tell."""
    return min(MOST_WARM_UP_ROUNDS, max(2 * WARM_UP_ROUNDS, rounds))


def ratios_to_neighbours(
    action: Callable[[], object],
    base: Callable[[], object],
    rounds: int,
    clock: Callable[[], int] = perf_counter_ns,
    most_warm_up_rounds: int = MOST_WARM_UP_ROUNDS,
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The microseconds of each run of `action`, and the mean of those of `base` just before and just after it.

    A machine that is now fast and now slow changes both alike, so their ratios find a few percent where medians of
    all do not.
    """
    run, run_base = _timed(action, clock), _timed(base, clock)
    warm_up({"action": run, "base": run_base}, min(most_warm_up_rounds, warm_up_rounds_for(rounds)))
    before, tops, bottoms = run_base(), [], []
    with uncollected():
        for _ in range(rounds):
            tops.append(run())
            after = run_base()
            bottoms.append((before + after) / 2)
            before = after
    return tuple(tops), tuple(bottoms)


@contextmanager
def uncollected() -> Iterator[None]:
    """The garbage collector waits."""
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
