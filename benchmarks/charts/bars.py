"""Bar charts: one row per series, with its name, its samples as dots, its median with the interval, and the number.

On an axis that starts at zero a median is a bar. A logarithmic axis has no zero for a bar to start at, so there it is a
mark on a thin line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from benchmarks.charts.axes import Span, span_of
from benchmarks.charts.samples import dots, scattered
from benchmarks.charts.style import DASHES, INK, MUTED, PAPER, Look, log_locator, looks, says_unit, with_unit, wrapped
from benchmarks.charts.style import points as points_wide
from edge_prompt_runtime.bench.results import Chart, Series

SIZE = 11.0
LINE, BAR, GAP = 14.0, 13.0, 9.0
"""Heights of a line of text, of a bar, and of the gap between rows, in points."""

TELEPHONE = 480.0
"""Below this width names stand above their bars instead of next to them."""

MOST_NAMES = 0.42
"""The share of the width that names next to bars may take."""


class Row(NamedTuple):
    """The position of a row, in points from the top of the axes: its name, and the middle of its bar."""

    name: list[str]
    text: float
    bar: float


def draw_bars(figure: Figure, chart: Chart, series: Sequence[Series], width: float, top: float) -> None:
    """Draw the rows, the first one on top, and set the height of the figure.

    Args:
        figure: The figure to draw on.
        chart: The chart.
        series: The rows.
        width: Width of the figure in points.
        top: Height of the title in points.
    """
    unit = series[0].unit
    names_left = width >= TELEPHONE
    values = [with_unit(one.median.value, unit) for one in series]
    right = max(points_wide(value, SIZE) for value in values) + 14
    room = width * MOST_NAMES if names_left else width - 8
    names = [wrapped(one.name, room, SIZE) for one in series]
    left = max(points_wide(line, SIZE) for name in names for line in name) + 18 if names_left else 8
    span = span_of(chart, series)
    inner = width - left - right
    limits = [
        (
            wrapped(
                f"{name}, {with_unit(value, unit)}", max(span.share(value), 1 - span.share(value)) * inner - 6, SIZE
            ),
            value,
        )
        for name, value in chart.limits.items()
    ]
    rows, tall = _rows(names, names_left=names_left, above=sum(LINE * len(says) + 4 for says, _ in limits))
    bottom = 22 if says_unit(unit) else 38
    height = top + tall + bottom
    figure.set_size_inches(width / 72, height / 72)
    axes = figure.add_axes((left / width, bottom / height, inner / width, tall / height))
    axes.set_ylim(tall, 0)
    _scale(axes, span, unit)
    for row, one, value, look in zip(rows, series, values, _looks(series), strict=True):
        _name(axes, row, names_left=names_left)
        axes.annotate(value, (1, row.bar), (right - 4, 0), **_AT_AXES, ha="right", va="center", size=SIZE)
        _draw(axes, row.bar, one, look, span)
    down = 0.0
    for place, (says, limit) in enumerate(limits):
        axes.plot([limit, limit], [down, tall], color=INK, linestyle=DASHES[place % len(DASHES)], linewidth=1.2)
        _limit(axes, "\n".join(says), limit, down + LINE * len(says) / 2 + 2, left=span.share(limit) > 0.5)
        down += LINE * len(says) + 4
    axes.tick_params(axis="x", labelsize=SIZE, length=3)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(visible=True, axis="x")
    if not says_unit(unit):
        axes.set_xlabel(unit, size=SIZE, labelpad=3)


_HALO: Any = {"facecolor": PAPER, "alpha": 0.85, "linewidth": 0, "pad": 0.5}
"""Background of texts that a line may cross."""

_AT_AXES: Any = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "annotation_clip": False}


def _rows(names: list[list[str]], *, names_left: bool, above: float) -> tuple[list[Row], float]:
    """Return the rows, and their total height including what stands `above` them."""
    rows, at = [], above + GAP / 2
    for name in names:
        text = LINE * len(name)
        if names_left:
            tall = max(text, BAR)
            rows.append(Row(name, at + tall / 2, at + tall / 2))
        else:
            tall = text + BAR + 1
            rows.append(Row(name, at, at + text + 1 + BAR / 2))
        at += tall + GAP
    return rows, at


def _looks(series: Sequence[Series]) -> list[Look]:
    found = looks(one.line or one.name if any(each.line for each in series) else "" for one in series)
    return [found[one.line or one.name if any(each.line for each in series) else ""] for one in series]


def _scale(axes: Axes, span: Span, unit: str) -> None:
    if span.log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(log_locator(span.low, span.high, 6))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.set_xlim(span.low, span.high)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: with_unit(value, unit)))


def _name(axes: Axes, row: Row, *, names_left: bool) -> None:
    if names_left:
        axes.annotate(
            "\n".join(row.name),
            (0, row.text),
            (-8, 0),
            **_AT_AXES,
            ha="right",
            va="center",
            size=SIZE,
            linespacing=1.15,
        )
    else:
        axes.annotate(
            "\n".join(row.name), (0, row.text), (0, 0), **_AT_AXES, va="top", size=SIZE, linespacing=1.15, bbox=_HALO
        )


def _draw(axes: Axes, at: float, one: Series, look: Look, span: Span) -> None:
    found = one.median
    if span.log:
        axes.plot([span.low, found.value], [at, at], color=look.colour, linewidth=2, alpha=0.45, solid_capstyle="butt")
    else:
        axes.barh([at], [found.value], height=BAR, color=look.colour, alpha=0.75)
    if len(one.samples) > 1:
        across = dots(one.samples)
        inside = across <= span.high
        middle = at + scattered(len(across)) * BAR * 0.38
        axes.scatter(across[inside], middle[inside], s=3.2, color=INK, alpha=0.35, linewidths=0)
        axes.scatter(
            np.full((~inside).sum(), span.high),
            middle[~inside],
            s=16,
            marker=">",
            color=INK,
            alpha=0.5,
            linewidths=0,
            clip_on=False,
        )
        axes.plot([found.low, found.high], [at, at], color=INK, linewidth=1.4, solid_capstyle="butt")
    if span.log:
        axes.plot(
            [found.value], [at], look.marker, color=look.colour, markeredgecolor=INK, markeredgewidth=0.8, markersize=8
        )
    else:
        axes.plot([found.value] * 2, [at - BAR / 2, at + BAR / 2], color=INK, linewidth=1.4)


def _limit(axes: Axes, says: str, value: float, at: float, *, left: bool) -> None:
    """Label a line across all rows, in a row of its own above them, on the side with more room."""
    axes.annotate(
        says,
        (value, at),
        (-5 if left else 5, 0),
        textcoords="offset points",
        ha="right" if left else "left",
        va="center",
        multialignment="right" if left else "left",
        size=SIZE,
        color=MUTED,
        annotation_clip=False,
        bbox=_HALO,
    )
