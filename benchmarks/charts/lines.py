"""Line charts over a growing quantity, such as the number of tasks: medians with intervals, samples as dots behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from benchmarks.charts.axes import span_of
from benchmarks.charts.bars import SIZE
from benchmarks.charts.samples import dots
from benchmarks.charts.style import DASHES, INK, Look, log_locator, looks, points, says_unit, with_unit, wrapped
from edge_prompt_runtime.bench.results import Chart, Series
from edge_prompt_runtime.bench.tables import number

HEIGHT = 280.0
"""Height of the axes and of what is below them, in points."""

LEGEND_LINE = 17.0
KEY, BETWEEN, EDGE_POINTS = 23.0, 16.0, 8.0
"""Spaces of the legend: left of a text, between two entries, and at the margins."""

LOGARITHMIC_SPAN = 50
"""From this factor between the least and the greatest value on, a horizontal axis is logarithmic."""

DOTS = 15
EDGE = 0.05
"""The share of the horizontal axis that is left free on either side."""

TICK_GAP = 8.0
"""Space between two tick labels, in points."""

LEFT, BOTTOM, RIGHT = 62.0, 42.0, 12.0
"""Margins to the left of the axes and below them, in points."""


class Entry(NamedTuple):
    """An entry of the legend: its text, its key, and its position in points."""

    text: list[str]
    key: dict[str, Any]
    across: float
    down: float


def draw_lines(figure: Figure, chart: Chart, series: Sequence[Series], width: float, top: float) -> None:
    """Draw one line through all series of the same `line`, over their `x`, and set the height of the figure.

    Args:
        figure: The figure to draw on.
        chart: The chart.
        series: The points of all lines.
        width: Width of the figure in points.
        top: Height of the title in points.
    """
    unit = series[0].unit
    lines = list(dict.fromkeys(one.line or one.name for one in series))
    appearance = looks(lines)
    entries = {line: _key_of_line(appearance[line]) for line in lines}
    for place, (name, value) in enumerate(chart.limits.items()):
        entries[f"{name}, {with_unit(value, unit)}{'' if says_unit(unit) else f' {unit}'}"] = _key_of_limit(place)
    legend, tall = _arranged(entries, width)
    above = top + tall + 8
    height = above + HEIGHT
    figure.set_size_inches(width / 72, height / 72)
    axes = figure.add_axes((LEFT / width, BOTTOM / height, (width - LEFT - RIGHT) / width, (HEIGHT - BOTTOM) / height))
    _scales(axes, chart, series, width)
    for line in lines:
        own = sorted((one for one in series if (one.line or one.name) == line), key=lambda one: one.x or 0)
        medians, across = [one.median for one in own], [one.x or 0 for one in own]
        look = appearance[line]
        for one in own:
            shown = dots(one.samples, DOTS)
            axes.scatter(np.full(len(shown), one.x or 0), shown, s=8, color=look.colour, alpha=0.35, linewidths=0)
        axes.errorbar(
            across,
            [found.value for found in medians],
            yerr=([found.value - found.low for found in medians], [found.high - found.value for found in medians]),
            color=look.colour,
            marker=look.marker,
            markersize=7,
            markeredgecolor=INK,
            markeredgewidth=0.7,
            linewidth=1.8,
            elinewidth=1.2,
            ecolor=INK,
            capsize=2.5,
        )
    _draw_legend(figure, legend, width, height, top)
    _limits(axes, chart)
    axes.set_xlabel(chart.x, size=SIZE, labelpad=4)
    if not says_unit(unit):
        axes.set_ylabel(unit, size=SIZE, labelpad=3)
    axes.tick_params(labelsize=SIZE, length=3)
    axes.grid(visible=True, axis="y")


def _key_of_limit(place: int) -> dict[str, Any]:
    return {"color": INK, "linestyle": DASHES[place % len(DASHES)], "linewidth": 1.2}


def _key_of_line(look: Look) -> dict[str, Any]:
    edge = {"markeredgecolor": INK, "markeredgewidth": 0.7, "markevery": [1]}
    return {"color": look.colour, "linewidth": 1.8, "marker": look.marker, "markersize": 7, **edge}


def _arranged(entries: Mapping[str, dict[str, Any]], width: float) -> tuple[list[Entry], float]:
    """Arrange the legend from left to right and then in the next row; return the positions and the total height."""
    placed: list[Entry] = []
    across, down, tall = EDGE_POINTS, 0.0, 0.0
    for name, key in entries.items():
        text = wrapped(name, width - KEY - 2 * EDGE_POINTS, SIZE)
        needed = KEY + max(points(line, SIZE) for line in text)
        if across > EDGE_POINTS and across + needed > width - EDGE_POINTS:
            across, down, tall = EDGE_POINTS, down + tall, 0.0
        placed.append(Entry(text, key, across, down))
        across, tall = across + needed + BETWEEN, max(tall, LEGEND_LINE * len(text))
    return placed, down + tall


def _draw_legend(figure: Figure, entries: Sequence[Entry], width: float, height: float, top: float) -> None:
    for one in entries:
        middle = 1 - (top + one.down + LEGEND_LINE / 2) / height
        ends = [(one.across + part * (KEY - 5)) / width for part in (0, 0.5, 1)]
        figure.add_artist(Line2D(ends, [middle] * 3, **one.key))
        for row, line in enumerate(one.text):
            baseline = 1 - (top + one.down + LEGEND_LINE * (row + 0.5) + SIZE * 0.36) / height
            figure.text((one.across + KEY) / width, baseline, line, va="baseline", size=SIZE)


def _scales(axes: Axes, chart: Chart, series: Sequence[Series], width: float) -> None:
    unit = series[0].unit
    across = sorted({one.x or 0.0 for one in series})
    positive = [x for x in across if x > 0]
    if positive and positive[-1] >= LOGARITHMIC_SPAN * positive[0]:
        if across[0] > 0:
            axes.set_xscale("log")
        else:
            axes.set_xscale("symlog", linthresh=positive[0])
    span = span_of(chart, series)
    axes.set_yscale("log" if span.log else "linear")
    axes.set_ylim(span.low, span.high)
    steps = [1, 2, 2.5, 5, 10]
    axes.yaxis.set_major_locator(log_locator(span.low, span.high, 8) if span.log else MaxNLocator(6, steps=steps))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: with_unit(value, unit)))
    scale = axes.xaxis.get_transform()
    first, last = (float(found) for found in scale.transform([across[0], across[-1]]))
    edge = (last - first) * EDGE or 1.0
    axes.set_xlim(*scale.inverted().transform([first - edge, last + edge]))
    shares = [(float(scale.transform(x)) - first + edge) / (last - first + 2 * edge) for x in across]
    room = width - LEFT - RIGHT
    said = {x: _said(x, chart.x) for x in across}
    centres = {x: share * room for x, share in zip(across, shares, strict=True)}
    axes.set_xticks(_apart(across, {x: (centres[x], points(said[x], SIZE)) for x in across}))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _said(value, chart.x)))


def _said(value: float, axis: str) -> str:
    """Format a value of the horizontal axis: bytes with units, other large numbers in thousands and millions."""
    if "bytes" in axis:
        return with_unit(value, "bytes")
    if value >= 1e6:
        return f"{value / 1e6:.3g}M"
    return f"{value / 1e3:.3g}k" if value >= 1e5 else number(value)


def _apart(values: Sequence[float], places: Mapping[float, tuple[float, float]]) -> list[float]:
    """Return the values whose labels do not overlap, by centre and width; the first and the last take precedence."""
    taken: list[float] = []
    for value in sorted(values, key=lambda one: one not in {values[0], values[-1]}):
        centre, wide = places[value]
        if all(abs(centre - places[other][0]) >= (wide + places[other][1]) / 2 + TICK_GAP for other in taken):
            taken.append(value)
    return sorted(taken)


def _limits(axes: Axes, chart: Chart) -> None:
    for place, value in enumerate(chart.limits.values()):
        axes.axhline(value, zorder=1.9, **_key_of_limit(place))
