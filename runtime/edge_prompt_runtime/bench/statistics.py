"""Statistics of samples: percentiles, and confidence intervals by the bootstrap.

The intervals are Efron's percentile intervals (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter
13), computed from many resamples drawn with replacement. They make no assumption about the distribution, which has a
long tail for latencies. The random seed is fixed, so the results are reproducible.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2_000
CONFIDENCE = 0.95
MOST_SAMPLES = 2_000
"""Larger samples are randomly reduced to this size, which makes the interval slightly wider, never narrower."""

Float64 = NDArray[np.float64]


class Interval(NamedTuple):
    """An estimate with its 95 % confidence interval."""

    value: float
    low: float
    high: float

    def __contains__(self, value: object) -> bool:
        """Return whether a value lies within the bounds."""
        return isinstance(value, int | float) and self.low <= value <= self.high


def percentile(samples: Sequence[float], share: float) -> float:
    """Return the percentile `share`, from 0 to 100, with linear interpolation."""
    return float(np.percentile(samples, share))


def median(samples: Sequence[float]) -> Interval:
    """Return the median and its interval."""
    return _interval(float(np.median(samples)), resampled_medians(samples, seed=0))


def percentile_interval(samples: Sequence[float], share: float) -> Interval:
    """Return a percentile and its interval, which is wide for a 99th percentile of only a hundred samples."""
    return _interval(
        percentile(samples, share), _resampled(samples, 0, lambda rows: np.percentile(rows, share, axis=1))
    )


def ratio(tops: Sequence[float], bottoms: Sequence[float]) -> Interval:
    """Return the ratio of the medians of independent samples, for example from two runs."""
    value = float(np.median(tops) / np.median(bottoms))
    return _interval(value, resampled_medians(tops, seed=0) / resampled_medians(bottoms, seed=1))


def paired_ratio(tops: Sequence[float], bottoms: Sequence[float]) -> Interval:
    """Return the median of the ratios of paired samples, one pair per round.

    Variations in the speed of the machine affect both samples of a pair alike, so this detects smaller differences
    than `ratio`.

    Raises:
        ValueError: The numbers of samples differ.
    """
    ratios = [top / bottom for top, bottom in zip(tops, bottoms, strict=True)]
    return median(ratios)


def resampled_medians(samples: Sequence[float], seed: int) -> Float64:
    """Return the medians of `RESAMPLES` resamples drawn with replacement, reproducible for a seed."""
    return _resampled(samples, seed, lambda rows: np.median(rows, axis=1))


def _resampled(samples: Sequence[float], seed: int, statistic: Callable[[Float64], Float64]) -> Float64:
    """Return the statistic of each of `RESAMPLES` resamples, in chunks that limit memory."""
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
