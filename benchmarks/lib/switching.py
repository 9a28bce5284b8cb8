"""How a switch of tasks is timed: after a request, as callers see it; in a tight loop; and within whole requests."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from time import perf_counter_ns

from edge_prompt_runtime.bench.timing import in_turn, warm_up, warm_up_rounds_for

NAMES = ("first", "second")
TIGHT_CALLS = 200
WARM_UP_ROUNDS = 10

Named = Callable[[str], object]
"""Something done for the task of that name."""


def after_request(request: Named, switch: Named, names: Iterator[str]) -> Callable[[], float]:
    """What times `switch`, in microseconds, right after a request that is not counted.

    Args:
        request: A whole request under a task, which leaves caches and threads as requests do.
        switch: What is timed.
        names: Of the tasks, one after the other: a request under one, then a switch to the next.
    """
    current = next(names)

    def elapsed_us() -> float:
        nonlocal current
        request(current)
        current = next(names)
        start = perf_counter_ns()
        switch(current)
        return (perf_counter_ns() - start) / 1000

    return elapsed_us


def tight(switch: Named, calls: int = TIGHT_CALLS) -> Callable[[], float]:
    """What times a call of `switch` among many with nothing between them, in microseconds."""
    names = [name for name, _ in zip(itertools.cycle(NAMES), range(calls), strict=False)]

    def elapsed_us() -> float:
        start = perf_counter_ns()
        for name in names:
            switch(name)
        return (perf_counter_ns() - start) / 1000 / calls

    return elapsed_us


def same_and_other(request: Named) -> Callable[[], tuple[float, float]]:
    """What times two whole requests, in microseconds: under the task of the one before, then under the other."""
    names = itertools.cycle(NAMES)
    current = next(names)

    def elapsed_us() -> tuple[float, float]:
        nonlocal current
        start = perf_counter_ns()
        request(current)
        same = perf_counter_ns()
        current = next(names)
        request(current)
        other = perf_counter_ns()
        return (same - start) / 1000, (other - same) / 1000

    return elapsed_us


def samples_us(timed: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, tuple[float, ...]]:
    """The microseconds of each once a round, in an order that changes, once they are warm."""
    if not timed:
        return {}
    warm_up(timed, warm_up_rounds_for(rounds))
    return {name: tuple(found) for name, found in in_turn(timed, rounds, warm_up_rounds=0).items()}


def pairs_us(
    timed: Mapping[str, Callable[[], tuple[float, float]]], rounds: int
) -> dict[str, tuple[tuple[float, ...], tuple[float, ...]]]:
    """The microseconds of requests under the same and under another task, of each; see `same_and_other`."""
    found = in_turn(timed, rounds, WARM_UP_ROUNDS)
    return {name: (tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)) for name, pairs in found.items()}
