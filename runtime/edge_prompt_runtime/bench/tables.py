"""Results in a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

from edge_prompt_runtime.bench.results import Ratio, Results, Series
from edge_prompt_runtime.bench.statistics import Interval, percentile

FEWEST_FOR_TAIL = 20
"""Samples without which a 95th percentile is not shown; a 99th needs five times as many."""

MARKS = {True: "[green]met[/]", False: "[red]missed[/]", None: ""}


def print_results(results: Results, console: Console | None = None) -> None:
    """Print the series, the ratios, and what a reader must know."""
    console = console or Console()
    for part in tables(results):
        console.print(part)


def tables(results: Results) -> Iterator[RenderableType]:
    """What there is to print, part by part."""
    yield f"[bold]{escape(results.question)}[/]"
    table = Table("what", "unit", "median", "95 % interval", "p95", "p99", "samples")
    for series in results.series:
        table.add_row(*map(escape, series_row(series)))
    yield table
    if results.ratios:
        ratios = Table("ratio", "median", "95 % interval", "goal", "")
        for one in results.ratios:
            ratios.add_row(*_ratio_row(results, one))
        yield ratios
    for note in results.notes:
        yield escape(note)
    for name, reason in results.left_out.items():
        yield f"[yellow]left out[/]: {escape(name)}: {escape(reason)}"
    known = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    yield escape(f"{results.machine.get('processor', '')}, {results.machine.get('cores', '')} cores; {known}")


def series_row(series: Series) -> list[str]:
    """A series as the cells of a table."""
    count = len(series.samples)
    tails = [
        number(percentile(series.samples, share)) if count >= least else ""
        for share, least in ((95, FEWEST_FOR_TAIL), (99, 5 * FEWEST_FOR_TAIL))
    ]
    return [series.name, series.unit, number(series.median.value), between(series.median), *tails, f"{count:,}"]


def between(interval: Interval) -> str:
    """The bounds of an interval."""
    return "" if interval.low == interval.high else f"{number(interval.low)} to {number(interval.high)}"


def number(value: float) -> str:
    """A number with four significant digits, or all those before the point."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _ratio_row(results: Results, one: Ratio) -> list[str]:
    found = results.value(one)
    goal = "" if one.goal is None else f"{'at least' if one.at_least else 'at most'} {number(one.goal)}"
    return [escape(one.name), number(found.value), between(found), goal, MARKS[one.met(found.value)]]
