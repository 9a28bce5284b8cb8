"""How things are timed here: variants take turns in one process, and medians are quoted."""

from __future__ import annotations

import gc
import random
import statistics
from collections.abc import Callable, Mapping
from time import perf_counter_ns, process_time_ns
from typing import NamedTuple, TypeVar

Found = TypeVar("Found")

WARM_UP_ROUNDS = 3

CLOCKS = {"wall": perf_counter_ns, "cpu": process_time_ns}
"""What is counted: time that passes, or time that processors spend on this process. The latter says more on a machine
that others use, too, if engines are given one thread: with several, threads that wait for others are counted."""


class Samples(NamedTuple):
    """The times of one variant, in microseconds."""

    us: tuple[float, ...]

    @property
    def median_us(self) -> float:
        """The median."""
        return statistics.median(self.us)

    @property
    def spread_us(self) -> tuple[float, float]:
        """The quartiles."""
        first, _, third = statistics.quantiles(self.us, n=4)
        return first, third


def in_turn(
    variants: Mapping[str, Callable[[], Found]], rounds: int, warm_up_rounds: int = WARM_UP_ROUNDS
) -> dict[str, list[Found]]:
    """Call every variant once a round, after rounds that do not count; the garbage collector waits meanwhile.

    The order changes every round: what runs after a long variant finds cold caches, which must not always hit the same.

    Returns:
        What each variant gave in each round that counts.
    """
    order = list(variants.items())
    shuffler = random.Random(0)
    found: dict[str, list[Found]] = {name: [] for name in variants}
    collecting = gc.isenabled()
    gc.disable()
    try:
        for number in range(warm_up_rounds + rounds):
            shuffler.shuffle(order)
            for name, action in order:
                given = action()
                if number >= warm_up_rounds:
                    found[name].append(given)
    finally:
        if collecting:
            gc.enable()
    return found


def interleaved(
    variants: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], int] = perf_counter_ns
) -> dict[str, Samples]:
    """Time every variant once a round; see `in_turn`."""

    def timed(action: Callable[[], object]) -> Callable[[], float]:
        def elapsed_us() -> float:
            start = clock()
            action()
            return (clock() - start) / 1000

        return elapsed_us

    times = in_turn({name: timed(action) for name, action in variants.items()}, rounds)
    return {name: Samples(tuple(samples)) for name, samples in times.items()}


def ratio(action: Callable[[], object], base: Callable[[], object], rounds: int, clock: Callable[[], int]) -> float:
    """How much longer `action` takes than `base`: each run of it against those of `base` before and after, the median.

    A machine that is now fast and now slow changes both alike, so this finds a few percent where medians do not.
    """

    def timed(run: Callable[[], object]) -> int:
        start = clock()
        run()
        return clock() - start

    timed(action)
    timed(base)
    before, ratios = timed(base), []
    for _ in range(rounds):
        taken, after = timed(action), timed(base)
        ratios.append(2 * taken / (before + after))
        before = after
    return statistics.median(ratios)
