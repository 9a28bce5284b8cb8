"""The charts of a benchmark, as SVG and PNG: bars, or lines over what grows, each median with its interval.

Colours are those of Okabe and Ito (Color Universal Design, 2008), which people with any colour vision tell apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edge_prompt_runtime.bench.results import Chart, Results, Series
from edge_prompt_runtime.bench.tables import number

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#999999", "#F0E442")
MARKERS = "osD^vPX*"
FORMATS = ("svg", "png")
LOGARITHMIC_SPAN = 50
"""From which factor on between the least and the greatest a horizontal axis is logarithmic."""

STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "edge-prompt", "font.size": 10, "axes.spines.top": False}


def write_charts(folder: Path, results: Results) -> list[Path]:
    """Write `NAME-1.svg`, `NAME-1.png` and so on; returns the files."""
    written = []
    for place, chart in enumerate(results.charts, 1):
        figure = drawn(results, chart)
        for suffix in FORMATS:
            path = folder / f"{results.name}-{place}.{suffix}"
            figure.savefig(path, bbox_inches="tight", dpi=150, metadata={"Date": None} if suffix == "svg" else None)
            written.append(path)
    return written


def drawn(results: Results, chart: Chart, width_inches: float = 8) -> Figure:
    """A chart."""
    series = [results.find(name) for name in chart.series]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width_inches, 4.5 if chart.x else 1.2 + 0.34 * (len(series) + len(chart.limits))))
        axes = figure.add_subplot()
        (draw_lines if chart.x else draw_bars)(axes, chart, series)
        axes.set_title(chart.title, loc="left", fontsize=11)
        axes.spines["right"].set_visible(False)
    return figure


def draw_bars(axes: Axes, chart: Chart, series: Sequence[Series]) -> None:
    """A bar a series, the first on top, its number beside it; bars of one `line` have one colour."""
    lines = list(dict.fromkeys(one.line for one in series))
    medians = [one.median for one in series]
    axes.barh(
        [one.name for one in series],
        [found.value for found in medians],
        xerr=([found.value - found.low for found in medians], [found.high - found.value for found in medians]),
        color=[COLOURS[lines.index(one.line) % len(COLOURS)] for one in series],
        error_kw={"elinewidth": 1, "capsize": 2},
    )
    axes.invert_yaxis()
    if chart.log:
        axes.set_xscale("log")
    for place, found in enumerate(medians):
        axes.annotate(number(found.value), (found.high, place), (4, 0), textcoords="offset points", va="center")
    for name, value in chart.limits.items():
        axes.axvline(value, color="black", linestyle="--", linewidth=1)
        axes.annotate(
            name, (value, 1), (0, 2), xycoords=("data", "axes fraction"), textcoords="offset points", ha="center"
        )
        axes.title.set_position((0, 1.1))
    axes.set_xlabel(series[0].unit)
    axes.margins(x=0.15)


def draw_lines(axes: Axes, chart: Chart, series: Sequence[Series]) -> None:
    """A line for all series of one `line`, over their `x`."""
    lines = list(dict.fromkeys(one.line or one.name for one in series))
    for place, line in enumerate(lines):
        own = sorted((one for one in series if (one.line or one.name) == line), key=lambda one: one.x or 0)
        medians = [one.median for one in own]
        axes.errorbar(
            [one.x or 0 for one in own],
            [found.value for found in medians],
            yerr=([found.value - found.low for found in medians], [found.high - found.value for found in medians]),
            label=line,
            color=COLOURS[place % len(COLOURS)],
            marker=MARKERS[place % len(MARKERS)],
            capsize=2,
        )
    for name, value in chart.limits.items():
        axes.axhline(value, color="black", linestyle="--", linewidth=1)
        axes.annotate(name, (0, value), (2, 2), xycoords=("axes fraction", "data"), textcoords="offset points")
    spread = [one.x for one in series if one.x]
    if spread and max(spread) >= LOGARITHMIC_SPAN * min(spread):
        axes.set_xscale("symlog", linthresh=min(spread))
    if chart.log:
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
    axes.set_xlabel(chart.x)
    axes.set_ylabel(series[0].unit)
    axes.legend(frameon=False)
