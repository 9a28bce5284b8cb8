"""What a benchmark found, with every sample, as a JSON file.

docs/how_to/benchmark_a_device.md describes the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from edge_prompt.base.errors import ResultsError
from edge_prompt.storage.files import read_json, written_atomically
from edge_prompt.untrusted.json_fields import Fields
from edge_prompt_runtime.bench.statistics import Interval, median, paired_ratio, ratio

FORMAT_VERSION = 1
DIGITS = 6
"""Significant digits that a sample is written with."""

LARGEST = 1e18
"""Of a number, and of what 1 is over the smallest: what is computed of such numbers stays finite."""


@dataclass(frozen=True)
class Series:
    """The samples of one thing that was measured.

    Attributes:
        name: What it is called; unique in its file, and the same in the next run.
        unit: Of the samples, such as µs, ms, bytes or tokens/s.
        samples: In the order in which they were taken, at least one.
        line: What is drawn as one line or in one colour with it, such as its engine; empty is its name.
        x: Where it stands on the horizontal axis of a chart that has one.
        higher_is_better: Whether more of it is good.
    """

    name: str
    unit: str
    samples: tuple[float, ...]
    line: str = ""
    x: float | None = None
    higher_is_better: bool = False

    @cached_property
    def median(self) -> Interval:
        """The median of the samples, with its interval."""
        return median(self.samples)


@dataclass(frozen=True)
class Ratio:
    """A figure that matters: one series over another.

    Attributes:
        name: What it says, as in "a warm swap, over PEFT's".
        top: The name of a series.
        bottom: The name of another, of the same unit.
        paired: Whether samples stand beside each other, a pair a round.
        goal: What it should be; None if there is no goal.
        at_least: Whether the goal is a lower bound; else it is an upper bound.
    """

    name: str
    top: str
    bottom: str
    paired: bool = True
    goal: float | None = None
    at_least: bool = False

    def met(self, found: float) -> bool | None:
        """Whether the goal is met; None if there is none."""
        if self.goal is None:
            return None
        return found >= self.goal if self.at_least else found <= self.goal


@dataclass(frozen=True)
class Chart:
    """How series are drawn.

    Attributes:
        title: What is seen.
        series: Names of series, all of one unit.
        x: What the horizontal axis says; empty draws bars, one a series.
        log: Whether the axis of values is logarithmic; the horizontal axis is where its values span a factor of 50.
        limits: Lines across, by what they say: bounds of the hardware, or goals.
    """

    title: str
    series: tuple[str, ...]
    x: str = ""
    log: bool = False
    limits: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Results:
    """One run of one benchmark.

    Attributes:
        name: The script's name, or `bench`.
        question: What it answers.
        begun: When it began, in ISO 8601, UTC.
        seconds: How long it took.
        machine: See `edge_prompt_runtime.bench.machine`.
        versions: Of packages, by name.
        commit: Of the project, if it ran in a checkout; else empty.
        settings: What was asked for: threads, rounds, networks.
        series: All that was measured.
        ratios: The figures that matter.
        charts: How it is drawn.
        left_out: What could not be measured, such as a peer that cannot be installed, and why.
        notes: What a reader must know, a sentence each: which weights were real, what differs.
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
        """The series of that name.

        Raises:
            KeyError: There is none.
        """
        return {each.name: each for each in self.series}[name]

    def value(self, wanted: Ratio) -> Interval:
        """What a ratio comes to."""
        top, bottom = self.find(wanted.top).samples, self.find(wanted.bottom).samples
        return (paired_ratio if wanted.paired else ratio)(top, bottom)


def as_written(results: Results) -> Results:
    """The same with samples as a file has them: so what is shown now is what is shown of the file later."""
    return replace(
        results,
        series=tuple(
            replace(one, samples=tuple(float(f"{sample:.{DIGITS}g}") for sample in one.samples))
            for one in results.series
        ),
    )


def write_results(path: Path, results: Results) -> None:
    """Write the file, whole or not at all.

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
        ResultsError: It is none of results, of another version, or contradicts itself.
    """
    fields = Fields(read_json(path, ResultsError), str(path), ResultsError)
    fields.require_version(FORMAT_VERSION)
    series = tuple(map(_series, fields.objects("series")))
    units = {one.name: one.unit for one in series}
    if len(units) < len(series):
        fields.refuse("two series of one name", "different names")
    ratios, charts = tuple(map(_ratio, fields.objects("ratios"))), tuple(map(_chart, fields.objects("charts")))
    for named in (*((one.top, one.bottom) for one in ratios), *(one.series for one in charts)):
        if len({units.get(name) for name in named} - {None}) != 1 or not units.keys() >= set(named):
            fields.refuse(f"the series {', '.join(named)[:200]}, drawn or divided", "series of one unit in this file")
    lengths = {one.name: len(one.samples) for one in series}
    around_zero = {one.name for one in series if min(one.samples) <= 0 <= max(one.samples)}
    for one in ratios:
        if one.bottom in around_zero:
            fields.refuse(f"{one.name!r} divides by samples around 0", "samples of one sign")
        if one.paired and lengths[one.top] != lengths[one.bottom]:
            fields.refuse(f"{one.name!r} pairs {lengths[one.top]} samples with {lengths[one.bottom]}", "pairs")
    return Results(
        name=fields.take("name", str),
        question=fields.take("question", str),
        begun=fields.take("begun", str),
        seconds=fields.take("seconds", float),
        machine=fields.take("machine", dict),
        versions=fields.string_values("versions"),
        settings=fields.take("settings", dict),
        series=series,
        ratios=ratios,
        charts=charts,
        left_out=fields.string_values("left_out"),
        notes=fields.strings("notes"),
        commit=fields.take("commit", str),
    )


def _series(fields: Fields) -> Series:
    return Series(
        name=fields.take("name", str),
        unit=fields.take("unit", str),
        samples=_numbers(fields, fields.take("samples", list)),
        line=fields.take("line", str),
        x=fields.optional("x", float),
        higher_is_better=fields.take("higher_is_better", bool),
    )


def _ratio(fields: Fields) -> Ratio:
    return Ratio(
        name=fields.take("name", str),
        top=fields.take("top", str),
        bottom=fields.take("bottom", str),
        paired=fields.take("paired", bool),
        goal=fields.optional("goal", float),
        at_least=fields.take("at_least", bool),
    )


def _chart(fields: Fields) -> Chart:
    limits = fields.take("limits", dict)
    values = _numbers(fields, list(limits.values())) if limits else ()
    return Chart(
        title=fields.take("title", str),
        series=fields.distinct("series"),
        x=fields.take("x", str),
        log=fields.take("log", bool),
        limits=dict(zip(limits, values, strict=True)),
    )


def _numbers(fields: Fields, found: list[Any]) -> tuple[float, ...]:
    if not found or not all(isinstance(one, int | float) and not isinstance(one, bool) for one in found):
        fields.refuse("no samples, or more than numbers", "a list of numbers")
    try:
        numbers = tuple(map(float, found))
    except OverflowError:
        fields.refuse("an integer beyond all floats", "numbers")
    if not all(number == 0 or 1 / LARGEST <= abs(number) <= LARGEST for number in numbers):
        fields.refuse("a number that is not finite, or of no size that is measured", f"numbers up to {LARGEST:g}")
    return numbers
