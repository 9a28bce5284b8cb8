"""Showing results in a terminal of at least 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

from edge_prompt_runtime.bench.results import Ratio, Results, Series
from edge_prompt_runtime.bench.statistics import Interval, percentile

FEWEST_FOR_TAIL = 20
"""The fewest samples for which a 95th percentile is shown; a 99th percentile needs five times as many."""

MARKS = {True: "[green]met[/]", False: "[red]missed[/]", None: ""}

NARROWEST_NAME = 24
"""The minimum width of the column of names."""

WIDEST_WORDS = 16
"""The maximum width of the column of words after the numbers."""


class Group(NamedTuple):
    """Rows with a common title.

    Attributes:
        title: What they have in common, such as an engine; empty if the names of the rows say it.
        rows: The cells of each row, starting with the name.
    """

    title: str
    rows: list[list[str]]


def print_results(results: Results, console: Console | None = None) -> None:
    """Print the series, the ratios and the notes."""
    console = console or Console()
    for part in tables(results):
        console.print(part)


def tables(results: Results) -> Iterator[RenderableType]:
    """Yield the parts to print."""
    yield f"[bold]{escape(results.question)}[/]"
    columns = ("", "unit", "median", "95 % interval", "p95", "p99", "n")
    yield table(columns, grouped((series.line, series_row(series)) for series in results.series))
    if results.ratios:
        lines = {series.name: series.line for series in results.series}
        rows = ((_line_of(one.name, lines[one.top]), _ratio_row(results, one)) for one in results.ratios)
        yield table(("ratio", "median", "95 % interval", "goal", ""), grouped(rows))
    for note in results.notes:
        yield escape(note)
    for name, reason in results.left_out.items():
        yield f"[yellow]omitted[/]: {escape(name)}: {escape(reason)}"
    known = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    yield escape(f"{results.machine.get('processor', '')}, {results.machine.get('cores', '')} cores; {known}")


def table(columns: tuple[str, ...], groups: Iterable[Group]) -> Table:
    """Create a table that wraps names if necessary, but never numbers.

    Args:
        columns: The headings, starting with that of the names. A column without a heading contains words, which wrap.
        groups: The rows; their cells are markup.
    """
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0))
    made.add_column(columns[0], min_width=NARROWEST_NAME, overflow="fold")
    for column in columns[1:]:
        if column:
            made.add_column(column, no_wrap=True, justify="left" if column == "unit" else "right")
        else:
            made.add_column(column, max_width=WIDEST_WORDS, overflow="fold")
    for title, rows in groups:
        if title:
            made.add_section()
            made.add_row(f"[bold cyan]{title}[/]")
        for name, *cells in rows:
            made.add_row(f"  {name}" if title else name, *cells)
    return made


def grouped(rows: Iterable[tuple[str, list[str]]]) -> list[Group]:
    """Group rows by their line, in order of first appearance, and remove the line from the names.

    Args:
        rows: The line of each row, and its cells as plain text, starting with the name. A row whose name is its line
            gets no title.
    """
    found: dict[str, list[list[str]]] = {}
    for line, cells in rows:
        name = cells[0].removeprefix(f"{line}: ").removeprefix(f"{line}, ")
        found.setdefault("" if name == line else line, []).append([escape(name), *cells[1:]])
    return [Group(escape(line), cells) for line, cells in found.items()]


def series_row(series: Series) -> list[str]:
    """Return a series as the cells of a table."""
    count = len(series.samples)
    tails = [
        number(percentile(series.samples, share)) if count >= least else ""
        for share, least in ((95, FEWEST_FOR_TAIL), (99, 5 * FEWEST_FOR_TAIL))
    ]
    return [series.name, series.unit, number(series.median.value), between(series.median), *tails, f"{count:,}"]


def between(interval: Interval) -> str:
    """Format the bounds of an interval."""
    return "" if interval.low == interval.high else f"{number(interval.low)} to {number(interval.high)}"


def number(value: float) -> str:
    """Format a number with four significant digits, or with all digits before the decimal point."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _line_of(name: str, line: str) -> str:
    """Return the line of a ratio's top series, if the name of the ratio starts with it."""
    return line if name.startswith(f"{line}: ") else ""


def _ratio_row(results: Results, one: Ratio) -> list[str]:
    found = results.value(one)
    goal = "" if one.goal is None else f"{'at least' if one.at_least else 'at most'} {number(one.goal)}"
    return [one.name, number(found.value), between(found), goal, MARKS[one.met(found.value)]]
