"""How things are timed here; see `edge_prompt_runtime.bench.timing`."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from time import perf_counter_ns
from typing import NamedTuple

from edge_prompt_runtime.bench.timing import CLOCKS, in_turn, interleaved_us, ratios_to_neighbours

__all__ = ["CLOCKS", "Samples", "in_turn", "interleaved", "ratio"]


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


def interleaved(
    variants: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], int] = perf_counter_ns
) -> dict[str, Samples]:
    """Time every variant once a round."""
    return {name: Samples(samples) for name, samples in interleaved_us(variants, rounds, clock).items()}


def ratio(action: Callable[[], object], base: Callable[[], object], rounds: int, clock: Callable[[], int]) -> float:
    """How much longer `action` takes than `base`, of neighbouring runs."""
    tops, bottoms = ratios_to_neighbours(action, base, rounds, clock)
    return statistics.median(top / bottom for top, bottom in zip(tops, bottoms, strict=True))
