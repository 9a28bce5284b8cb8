"""The range of an axis of values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from benchmarks.charts.style import with_unit
from edge_prompt_runtime.bench.results import Chart, Series
from edge_prompt_runtime.bench.statistics import percentile


class Span(NamedTuple):
    """An axis of values: its ends, and whether it is logarithmic."""

    low: float
    high: float
    log: bool

    def share(self, value: float) -> float:
        """Return the position of a value between the ends, from 0 to 1."""
        low, high, own = (np.log([self.low, self.high, value])) if self.log else (self.low, self.high, value)
        return float((own - low) / (high - low))


def span_of(chart: Chart, series: Sequence[Series]) -> Span:
    """Return the range of values; an axis that starts at zero may cut off the longest tails of samples."""
    limits = list(chart.limits.values())
    least = min(*(min(one.samples) for one in series), *limits, np.inf)
    if chart.log and least > 0:
        return Span(least / 1.3, max(*(max(one.samples) for one in series), *limits, 0.0) * 1.15, log=True)
    ends = (max(one.median.high, percentile(one.samples, 90)) for one in series)
    low, high = min(0.0, least), max(*ends, *limits, 0.0) * 1.05
    return Span(low, high if low < high else low + 1, log=False)


def beyond(chart: Chart, series: Sequence[Series]) -> str:
    """Report how many samples lie beyond the axis; empty if none do."""
    span = span_of(chart, series)
    out = [sample for one in series for sample in one.samples if sample > span.high]
    if not out:
        return ""
    return f"{len(out):,} of the samples lie beyond the axis, up to {with_unit(max(out), series[0].unit)}"
