"""Comparing two runs series by series, and distinguishing changes from noise.

A change is the ratio of medians, new over old, with a bootstrap interval. Consecutive samples are correlated (a machine
is slow for a while), so they carry less information than independent samples. The interval is therefore stretched
according to the autocorrelation of the samples, which is estimated as in Geyer, Practical Markov Chain Monte Carlo,
1992, for the indicator "above the median", on which a median depends.

By chance, one in twenty unchanged series is expected to have a 95 % interval without 1. A series therefore counts as
changed only if an interval that is widened for the number of series (Bonferroni) does not contain 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_prompt_runtime.bench.results import Results, Series
from edge_prompt_runtime.bench.statistics import CONFIDENCE, Interval, resampled_medians

FEWEST_SAMPLES = 5
"""The fewest samples for which a change is reported."""

NOT_COMPARED = frozenset({"load_average"})
"""The properties of a machine that differ in every run."""

BUSY = 0.75
"""The load average per core above which other programs were running."""

Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class Change:
    """The change of a series between two runs.

    Attributes:
        old: The series in the old run.
        new: The series in the new run.
        ratio: The ratio of the medians, new over old, with its 95 % interval; None if a sample is not positive or there
            are too few samples.
        widened: The ratio with an interval that is wide enough for all intervals of the comparison to hold together
            with 95 % confidence.
    """

    old: Series
    new: Series
    ratio: Interval | None
    widened: Interval | None

    @property
    def told(self) -> bool:
        """Whether the series changed, allowing for the number of series compared."""
        return self.widened is not None and 1.0 not in self.widened

    @property
    def perhaps(self) -> bool:
        """Whether the series would count as changed only if it were the only one compared."""
        return not self.told and self.ratio is not None and 1.0 not in self.ratio

    @property
    def better(self) -> bool:
        """Whether the new median is the better one."""
        return self.ratio is not None and (self.ratio.value > 1) is self.new.higher_is_better

    @property
    def said(self) -> str:
        """A description of the change for people."""
        if self.ratio is None:
            few = min(len(self.old.samples), len(self.new.samples)) < FEWEST_SAMPLES
            return "too few samples" if few else "no ratio: some samples are not positive"
        if not self.told and not self.perhaps:
            return "no significant difference"
        size = f"{abs(self.ratio.value - 1):.1%} {'more' if self.ratio.value > 1 else 'less'}"
        return f"{size}, {'better' if self.better else 'worse'}" if self.told else f"perhaps {size}"


@dataclass(frozen=True)
class Comparison:
    """A comparison of two runs.

    Attributes:
        old: The old run.
        new: The new run.
        changes: The changes of the series that both runs have with the same unit.
        only_old: The names of series that only the old run has.
        only_new: The names of series that only the new run has.
        warnings: Other differences, one sentence each, that may have caused a change.
        confidence: The confidence of each widened interval.
    """

    old: Results
    new: Results
    changes: tuple[Change, ...]
    only_old: tuple[str, ...]
    only_new: tuple[str, ...]
    warnings: tuple[str, ...]
    confidence: float


def compare(old: Results, new: Results) -> Comparison:
    """Compare two runs, of the same or different benchmarks, by the names of their series."""
    before = {(series.name, series.unit): series for series in old.series}
    after = {(series.name, series.unit): series for series in new.series}
    both = [key for key in after if key in before]
    confidence = 1 - (1 - CONFIDENCE) / max(1, len(both))
    return Comparison(
        old,
        new,
        tuple(change_of(before[key], after[key], confidence) for key in both),
        tuple(key[0] for key in before if key not in after),
        tuple(key[0] for key in after if key not in before),
        _warnings(old, new),
        confidence,
    )


def change_of(old: Series, new: Series, confidence: float) -> Change:
    """Return the change of a series.

    Args:
        old: The series in the old run.
        new: The series in the new run.
        confidence: The confidence of the widened interval, at least 0.95.
    """
    fewest = min(len(old.samples), len(new.samples))
    medians = [float(np.median(series.samples)) for series in (old, new)]
    if fewest < FEWEST_SAMPLES or min(*old.samples, *new.samples) <= 0:
        return Change(old, new, None, None)
    value = math.log(medians[1] / medians[0])
    errors = _errors(new, seed=1) - _errors(old, seed=0)
    low, high = np.percentile(errors, [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
    far = NormalDist().inv_cdf((1 + confidence) / 2) * float(errors.std())
    ratio = _interval(value, value + float(low), value + float(high))
    widened = _interval(value, min(value + float(low), value - far), max(value + float(high), value + far))
    return Change(old, new, ratio, widened)


def stretch(samples: tuple[float, ...]) -> float:
    """Return how many times wider the interval of the median is than for the same number of independent samples."""
    values = np.asarray(samples, np.float64)
    above = (values > np.median(values)).astype(np.float64)
    above -= above.mean()
    power = float(above @ above)
    if not power:
        return 1.0
    correlations = [float(above[lag:] @ above[:-lag]) / power for lag in range(1, len(above) // 2)]
    total = 1.0
    for first, second in zip(correlations[::2], correlations[1::2], strict=False):
        if first + second <= 0:  # the rest is noise
            break
        total += 2 * (first + second)
    return math.sqrt(total)


def _errors(series: Series, seed: int) -> Float64:
    """Return bootstrap errors of the logarithm of the median."""
    drawn = np.log(resampled_medians(series.samples, seed))
    errors: Float64 = (drawn - math.log(float(np.median(series.samples)))) * stretch(series.samples)
    return errors


def _interval(value: float, low: float, high: float) -> Interval:
    return Interval(math.exp(value), math.exp(min(low, value)), math.exp(max(high, value)))


def _warnings(old: Results, new: Results) -> tuple[str, ...]:
    said = [] if old.name == new.name else [f"The runs are of different benchmarks: {old.name} and {new.name}."]
    for what, before, after in (
        ("The machine", old.machine, new.machine),
        ("The versions", old.versions, new.versions),
        ("The settings", old.settings, new.settings),
        ("The commit", {"commit": old.commit}, {"commit": new.commit}),
    ):
        differ = _differences(before, after)
        if differ:
            said.append(f"{what} {'differ' if what.endswith('s') else 'differs'}: {', '.join(differ)}.")
    for when, results in (("old", old), ("new", new)):
        load, cores = results.machine.get("load_average"), results.machine.get("cores")
        if _number(load) > BUSY * max(1.0, _number(cores)):
            said.append(f"The machine was busy when the {when} run began (load average {load}).")
    return tuple(said)


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    names = [name for name in dict.fromkeys((*before, *after)) if name not in NOT_COMPARED]
    return [
        f"{name} was {_short(before.get(name))} and is now {_short(after.get(name))}"
        for name in names
        if before.get(name) != after.get(name)
    ]


def _short(value: object) -> str:
    if value is None or value == "":
        return "unset"
    text = str(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _number(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return 0.0
