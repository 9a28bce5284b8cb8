"""Charts of benchmarks as SVG and PNG: bars, or lines over a growing quantity, each median with its interval.

Samples are drawn as dots behind them: all, or `MOST_DOTS` that are spread evenly by rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.charts.bars import draw_bars
from benchmarks.charts.lines import draw_lines
from benchmarks.charts.style import INK, PAPER, STYLE, wrapped
from edge_prompt_runtime.bench.results import Chart, Results

FORMATS = ("svg", "png")
WIDE, NARROW = 720.0, 328.0
"""Widths in points; the second is for telephones, where a point of a chart is a pixel of the screen."""

TITLE_SIZE = 12.0


def write_charts(folder: Path, results: Results, formats: Sequence[str] = FORMATS) -> list[Path]:
    """Write `NAME-1.svg`, `NAME-1.png` and so on; return the files."""
    written = []
    for place, chart in enumerate(results.charts, 1):
        figure = drawn(results, chart)
        for suffix in formats:
            path = folder / f"{results.name}-{place}.{suffix}"
            with mpl.rc_context(STYLE):
                figure.savefig(path, dpi=150, metadata={"Date": None} if suffix == "svg" else None, facecolor=PAPER)
            if suffix == "svg":
                _tidy(path)
            written.append(path)
    return written


def drawn(results: Results, chart: Chart, width: float = WIDE, *, titled: bool = True) -> Figure:
    """Draw a chart that is `width` points wide."""
    series = [results.find(name) for name in chart.series]
    with mpl.rc_context({**STYLE, "font.size": 11.0}):
        figure = Figure()
        title = wrapped(chart.title, width - 16, TITLE_SIZE, bold=True) if titled else []
        top = 10 + 17 * len(title) if title else 4
        (draw_lines if chart.x else draw_bars)(figure, chart, series, width, top)
        if title:
            height = figure.get_figheight() * 72
            figure.text(
                8 / width, 1 - 8 / height, "\n".join(title), va="top", size=TITLE_SIZE, color=INK, weight="bold"
            )
    return figure


def _tidy(path: Path) -> None:
    """Add fallback fonts, and strip trailing blanks, which repositories refuse."""
    text = path.read_text(encoding="utf-8").replace("'DejaVu Sans'", "'DejaVu Sans', Verdana, sans-serif")
    path.write_text("\n".join(line.rstrip() for line in text.splitlines()) + "\n", encoding="utf-8")
