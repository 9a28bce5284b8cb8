"""Charts as SVG within a page: colours are the page's, and ids are unique."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree as ET

import matplotlib as mpl

from benchmarks.charts.figures import drawn
from benchmarks.charts.style import COLOURS, GRID, INK, MUTED, PAPER, STYLE
from edge_prompt_runtime.bench.results import Chart, Results

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"

VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--line)",
    PAPER: "var(--paper)",
    "#000000": "var(--ink)",
    **{colour: f"var(--c{place})" for place, colour in enumerate(COLOURS)},
}
"""The CSS variable of each colour of charts; `page.css` defines them for light and dark mode."""

_COLOUR = re.compile("|".join(VARIABLES))
_REFERENCE = re.compile(r"url\(#([^)]+)\)")


def svg(results: Results, chart: Chart, width: float, unique: str) -> str:
    """Return a chart as an `<svg>` element without a title, at most `width` points wide.

    Args:
        results: The results that it shows.
        chart: The chart.
        width: Width in points.
        unique: Prefix of its ids.
    """
    stream = io.StringIO()
    figure = drawn(results, chart, width, titled=False)
    with mpl.rc_context(STYLE):
        figure.savefig(stream, format="svg", metadata={"Date": None}, transparent=True)
    root = ET.fromstring(stream.getvalue())  # noqa: S314 (matplotlib has just written it)
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in {f"{{{SVG}}}metadata", f"{{{SVG}}}style"}:
                parent.remove(child)
    for element in root.iter():
        _adapt(element, unique)
    size = figure.get_size_inches() * 72
    root.attrib = {"viewBox": f"0 0 {size[0]:g} {size[1]:g}", "width": f"{size[0]:g}", "height": f"{size[1]:g}"}
    root.set("aria-hidden", "true")
    root.set("focusable", "false")
    ET.register_namespace("", SVG)
    ET.register_namespace("xlink", XLINK)
    return ET.tostring(root, encoding="unicode")


def _adapt(element: ET.Element, unique: str) -> None:
    """Replace colours and ids of one element, in place; its text stays."""
    for name, value in element.attrib.items():
        if name == "id":
            element.set(name, f"{unique}-{value}")
        elif name == f"{{{XLINK}}}href":
            element.set(name, f"#{unique}-{value.removeprefix('#')}")
        elif name in {"style", "clip-path", "fill", "stroke"}:
            there = _REFERENCE.sub(lambda found: f"url(#{unique}-{found[1]})", value)
            element.set(name, _COLOUR.sub(lambda found: VARIABLES[found[0]], there))
