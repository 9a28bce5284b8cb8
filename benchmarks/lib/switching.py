"""Timing of task switches: after a request, as callers experience it; in a tight loop; and within whole requests."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from time import perf_counter_ns

from edge_prompt_runtime.bench.timing import in_turn, warm_up, warm_up_rounds_for

NAMES = ("first", "second")
TIGHT_CALLS = 200
WARM_UP_ROUNDS = 10

Named = Callable[[str], object]
"""An action for the task of that name."""


def after_request(request: Named, switch: Named, names: Iterator[str]) -> Callable[[], float]:
    """Return an action that times `switch`, in microseconds, right after a request that is not timed.

    Args:
        request: A whole request under a task, which leaves caches and threads in their usual state.
        switch: The switch to time.
        names: Names of tasks: a request under one, then a switch to the next.
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
    """Return an action that times one of many consecutive calls of `switch`, in microseconds."""
    names = [name for name, _ in zip(itertools.cycle(NAMES), range(calls), strict=False)]

    def elapsed_us() -> float:
        start = perf_counter_ns()
        for name in names:
            switch(name)
        return (perf_counter_ns() - start) / 1000 / calls

    return elapsed_us


def same_and_other(request: Named) -> Callable[[], tuple[float, float]]:
    """Return an action that times two whole requests in microseconds: under the same task, then under the other."""
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
    """Return the microseconds of each action, once per round, in an order that changes, after warm-up."""
    if not timed:
        return {}
    warm_up(timed, warm_up_rounds_for(rounds))
    return {name: tuple(found) for name, found in in_turn(timed, rounds, warm_up_rounds=0).items()}


def pairs_us(
    timed: Mapping[str, Callable[[], tuple[float, float]]], rounds: int
) -> dict[str, tuple[tuple[float, ...], tuple[float, ...]]]:
    """Return the microseconds of requests under the same and under another task; see `same_and_other`."""
    found = in_turn(timed, rounds, WARM_UP_ROUNDS)
    return {name: (tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)) for name, pairs in found.items()}
