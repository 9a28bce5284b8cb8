"""Showing a comparison of two runs in a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console, RenderableType
from rich.markup import escape

from edge_prompt_runtime.bench.comparison import Change, Comparison
from edge_prompt_runtime.bench.tables import grouped, number, table


def print_comparison(comparison: Comparison, console: Console | None = None) -> None:
    """Print which series changed, which did not, and how else the runs differ."""
    console = console or Console()
    for part in comparison_tables(comparison):
        console.print(part)


def comparison_tables(comparison: Comparison) -> Iterator[RenderableType]:
    """Yield the parts to print."""
    old, new, changes = comparison.old, comparison.new, comparison.changes
    yield f"[bold]What changed since {escape(old.begun)}?[/] (new run: {escape(new.begun)})"
    for warning in comparison.warnings:
        yield f"[yellow]Warning[/]: {escape(warning)}"
    if changes:
        rows = ((change.new.line, _row(change)) for change in changes)
        yield table(("", "old", "new", "ratio", "95 % interval", ""), grouped(rows))
        told, perhaps = (sum(getattr(change, name) for change in changes) for name in ("told", "perhaps"))
        yield (
            f"Of {len(changes)} series, {told} changed and {perhaps} may have changed. By chance, one in twenty "
            "unchanged series is expected to have a 95 % interval without 1. A series therefore counts as changed only "
            f"if its {100 * comparison.confidence:.4g} % interval does not contain 1: together, these changes are "
            "significant at the 5 % level."
        )
    for when, names in (("old", comparison.only_old), ("new", comparison.only_new)):
        if names:
            yield f"[yellow]Only in the {when} run[/]: {escape(', '.join(names))}"
    if not changes:
        yield "The two runs have no series in common."


def _row(change: Change) -> list[str]:
    medians = [number(series.median.value) for series in (change.old, change.new)]
    name = f"{change.new.name} ({change.new.unit})"
    if change.ratio is None:
        return [name, *medians, "", "", change.said]
    ratio = change.ratio
    said = f"[{_colour(change)}]{change.said}[/]"
    return [name, *medians, f"{ratio.value:.3f}", f"{ratio.low:.3f} to {ratio.high:.3f}", said]


def _colour(change: Change) -> str:
    if not change.told:
        return "dim"
    return "green" if change.better else "red"
