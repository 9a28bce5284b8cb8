"""The results of a benchmark, with every sample, as a JSON file.

docs/how_to/benchmark_a_device.md describes the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from edge_prompt.base.errors import ResultsError
from edge_prompt.storage.files import read_json, written_atomically
from edge_prompt.untrusted.json_fields import Fields
from edge_prompt.untrusted.records import Check, DistinctStrings, read_record, require_consistent
from edge_prompt_runtime.bench.statistics import Interval, median, paired_ratio, ratio

FORMAT_VERSION = 1
DIGITS = 6
"""The number of significant digits of a written sample."""

LARGEST = 1e18
"""The largest number, and the inverse of the smallest one, for which all computations stay finite."""

Measured = Annotated[
    float,
    Check(lambda found: found == 0 or 1 / LARGEST <= abs(found) <= LARGEST, f"0, or a number up to {LARGEST:g}"),
]
"""A number with which all computations stay finite."""


@dataclass(frozen=True)
class Series:
    """The samples of one measured quantity.

    Attributes:
        name: Its name, which is unique in its file and stable across runs.
        unit: The unit of the samples, such as µs, ms, bytes or tokens/s.
        samples: The samples in the order in which they were taken; at least one.
        line: The line or colour of a chart to which it belongs, such as its engine; empty means its name.
        x: Its position on the horizontal axis of a chart, if the chart has one.
        higher_is_better: Whether higher values are better.
    """

    name: str
    unit: str
    samples: Annotated[tuple[Measured, ...], Check(len, "at least one sample")]
    line: str = ""
    x: float | None = None
    higher_is_better: bool = False

    @cached_property
    def median(self) -> Interval:
        """The median of the samples with its interval."""
        return median(self.samples)


@dataclass(frozen=True)
class Ratio:
    """A key figure: the ratio of two series.

    Attributes:
        name: Its name, such as "a warm swap, over PEFT's".
        top: The name of the series in the numerator.
        bottom: The name of the series in the denominator, which has the same unit.
        paired: Whether the samples are paired, one pair per round.
        goal: The goal; None if there is none.
        at_least: Whether the goal is a lower bound; otherwise it is an upper bound.
    """

    name: str
    top: str
    bottom: str
    paired: bool = True
    goal: float | None = None
    at_least: bool = False

    def met(self, found: float) -> bool | None:
        """Return whether the goal is met; None if there is no goal."""
        if self.goal is None:
            return None
        return found >= self.goal if self.at_least else found <= self.goal


@dataclass(frozen=True)
class Chart:
    """A chart of series.

    Attributes:
        title: Its title.
        series: The names of its series, which all have the same unit.
        x: The label of the horizontal axis; empty draws one bar per series.
        log: Whether the axis of values is logarithmic. The horizontal axis is logarithmic if its values span a factor
            of 50.
        limits: The values of horizontal lines, such as hardware limits or goals, by label.
    """

    title: str
    series: DistinctStrings
    x: str = ""
    log: bool = False
    limits: Mapping[str, Measured] = field(default_factory=dict)


@dataclass(frozen=True)
class Results:
    """The results of one run of a benchmark.

    Attributes:
        name: The name of the script, or `bench`.
        question: The question that it answers.
        begun: The start time, in ISO 8601, UTC.
        seconds: The duration in seconds.
        machine: The machine; see `edge_prompt_runtime.bench.machine`.
        versions: The versions of packages, by name.
        commit: The commit of the project if it ran in a checkout; otherwise empty.
        settings: The settings, such as threads, rounds and networks.
        series: All measured series.
        ratios: The key figures.
        charts: The charts.
        left_out: The reason for each measurement that was omitted, such as a peer that cannot be installed.
        notes: Notes for readers, one sentence each, for example which weights were real.
    """

    name: str
    question: str
    begun: str
    seconds: float
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    settings: Mapping[str, Any]
    series: tuple[Series, ...]
    ratios: tuple[Ratio, ...] = ()
    charts: tuple[Chart, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    commit: str = ""

    def find(self, name: str) -> Series:
        """Return the series with this name.

        Raises:
            KeyError: It does not exist.
        """
        return {each.name: each for each in self.series}[name]

    def value(self, wanted: Ratio) -> Interval:
        """Return the value of a ratio."""
        top, bottom = self.find(wanted.top).samples, self.find(wanted.bottom).samples
        return (paired_ratio if wanted.paired else ratio)(top, bottom)


def as_written(results: Results) -> Results:
    """Return the results with samples rounded as in a file, so that showing them gives the same output as the file."""
    return replace(
        results,
        series=tuple(
            replace(one, samples=tuple(float(f"{sample:.{DIGITS}g}") for sample in one.samples))
            for one in results.series
        ),
    )


def write_results(path: Path, results: Results) -> None:
    """Write the results to a file, atomically.

    Raises:
        WriteError: It cannot be written.
    """
    value = {"format_version": FORMAT_VERSION, **asdict(as_written(results))}
    with written_atomically(path) as stream:
        stream.write(json.dumps(value, ensure_ascii=False, allow_nan=False).encode())


def read_results(path: Path) -> Results:
    """Read a file of results.

    Raises:
        MissingFileError: There is no such file.
        ResultsError: It contains no results, has another format version, or is inconsistent.
    """
    fields = Fields(read_json(path, ResultsError), str(path), ResultsError)
    fields.require_version(FORMAT_VERSION)
    return read_record(Results, fields)


@require_consistent.register
def _require_names_and_units(results: Results, fields: Fields) -> None:
    units = {one.name: one.unit for one in results.series}
    if len(units) < len(results.series):
        fields.refuse("two series with the same name", "distinct names")
    for named in (*((one.top, one.bottom) for one in results.ratios), *(one.series for one in results.charts)):
        if len({units.get(name) for name in named} - {None}) != 1 or not units.keys() >= set(named):
            fields.refuse(
                f"a ratio or chart of the series {', '.join(named)[:200]}",
                "series of this file that all have the same unit",
            )
    lengths = {one.name: len(one.samples) for one in results.series}
    around_zero = {one.name for one in results.series if min(one.samples) <= 0 <= max(one.samples)}
    for one in results.ratios:
        if one.bottom in around_zero:
            fields.refuse(f"{one.name!r} divides by samples around 0", "samples that all have the same sign")
        if one.paired and lengths[one.top] != lengths[one.bottom]:
            fields.refuse(
                f"{one.name!r} pairs {lengths[one.top]} samples with {lengths[one.bottom]}", "equal numbers of samples"
            )
