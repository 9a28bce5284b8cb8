"""What samples come to: percentiles, and intervals by the bootstrap.

The intervals are Efron's percentile intervals (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter
13): the statistic of many samples drawn with replacement from those that there are. They assume nothing of the
distribution, which for latencies has a long tail. The draws are the same every time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2_000
CONFIDENCE = 0.95
MOST_SAMPLES = 2_000
"""Of more samples, so many are drawn from at random: an interval from these is a little too wide, never too narrow."""

Float64 = NDArray[np.float64]


class Interval(NamedTuple):
    """An estimate, and between what it lies with a confidence of 95 %."""

    value: float
    low: float
    high: float

    def __contains__(self, value: object) -> bool:
        """Whether a value lies between the bounds."""
        return isinstance(value, int | float) and self.low <= value <= self.high


def percentile(samples: Sequence[float], share: float) -> float:
    """The percentile `share`, 0 to 100, between neighbours in proportion."""
    return float(np.percentile(samples, share))


def median(samples: Sequence[float]) -> Interval:
    """The median and its interval."""
    return _interval(float(np.median(samples)), resampled_medians(samples, seed=0))


def percentile_interval(samples: Sequence[float], share: float) -> Interval:
    """A percentile and its interval; that of a 99th from a hundred samples says little, and is wide."""
    return _interval(
        percentile(samples, share), _resampled(samples, 0, lambda rows: np.percentile(rows, share, axis=1))
    )


def ratio(tops: Sequence[float], bottoms: Sequence[float]) -> Interval:
    """The ratio of the medians of samples that were taken apart, as in two runs."""
    value = float(np.median(tops) / np.median(bottoms))
    return _interval(value, resampled_medians(tops, seed=0) / resampled_medians(bottoms, seed=1))


def paired_ratio(tops: Sequence[float], bottoms: Sequence[float]) -> Interval:
    """The median of the ratios of samples that were taken side by side, one pair a round.

    A machine that is now fast and now slow changes both of a pair alike, so this finds less than `ratio` can.

    Raises:
        ValueError: There are not as many of the one as of the other.
    """
    ratios = [top / bottom for top, bottom in zip(tops, bottoms, strict=True)]
    return median(ratios)


def resampled_medians(samples: Sequence[float], seed: int) -> Float64:
    """The medians of `RESAMPLES` samples drawn with replacement from those there are, the same for a seed."""
    return _resampled(samples, seed, lambda rows: np.median(rows, axis=1))


def _resampled(samples: Sequence[float], seed: int, statistic: Callable[[Float64], Float64]) -> Float64:
    """The statistic of each of `RESAMPLES` draws, a few at a time so that memory stays small."""
    random = np.random.default_rng(seed)
    values = np.asarray(samples, np.float64)
    if len(values) > MOST_SAMPLES:
        values = random.choice(values, MOST_SAMPLES, replace=False)
    rows = max(1, 500_000 // len(values))
    parts = []
    for start in range(0, RESAMPLES, rows):
        size = (min(rows, RESAMPLES - start), len(values))
        parts.append(statistic(values[random.integers(len(values), size=size)]))
    return np.concatenate(parts)


def _interval(value: float, resampled: Float64) -> Interval:
    low, high = np.percentile(resampled, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
    return Interval(value, min(float(low), value), max(float(high), value))
