"""The style of charts: colours, markers, and numbers with units.

Colours are those of Okabe and Ito (Color Universal Design, 2008), which remain distinguishable with colour vision
deficiencies. In addition, a line has a marker of its own, and a bar has its name.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.ticker import Locator, LogLocator, MaxNLocator

from edge_prompt_runtime.bench.tables import number

INK, MUTED, GRID, PAPER = "#1c1b19", "#5d5a55", "#dcd8d0", "#ffffff"

COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8a8a8a", "#b8ac00")
"""The last one replaces their yellow, which is hard to see on white."""

MARKERS = "osD^vPX*"

DASHES: Any = ("--", ":", "-.", (0, (8, 2)), (0, (1, 1)))
"""Line styles of limits, which distinguish them without colour."""

PLACES = {"onnxruntime": 0, "openvino": 1, "peft": 2, "torch": 3}
"""Names with the same look in every chart: their positions among the colours and markers."""

STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "edge-prompt",
    "text.parse_math": False,
    "font.family": ["DejaVu Sans"],
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
}

_STEPS = {
    "µs": (1e-6, "s"),
    "us": (1e-6, "s"),
    "ms": (1e-3, "s"),
    "s": (1.0, "s"),
    "bytes": (1.0, "B"),
    "kB": (1e3, "B"),
    "MB": (1e6, "B"),
}
"""Units with multiples: their factor, and the family."""

_KINDS = {
    "s": ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")),
    "B": ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B")),
}


class Look(NamedTuple):
    """The look of a line: colour and marker."""

    colour: str
    marker: str


def looks(lines: Iterable[str]) -> dict[str, Look]:
    """Return a look for each name; the same engine has the same look in every chart."""
    names = list(dict.fromkeys(lines))
    known = {name: PLACES[_plain(name)] for name in names if _plain(name) in PLACES}
    free = iter(sorted(set(range(len(COLOURS))) - set(known.values())) + list(range(len(names))))
    places = {name: known[name] if name in known else next(free) for name in names}
    return {name: Look(COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]) for name, place in places.items()}


def with_unit(value: float, unit: str) -> str:
    """Format a value with its unit: 161,000 µs become 161 ms; a unit without multiples is left to the axis."""
    if unit not in _STEPS:
        return number(value)
    factor, kind = _STEPS[unit]
    if not value:
        return "0"
    plain = value * factor
    step, name = next((one for one in _KINDS[kind] if abs(plain) >= one[0] * 0.9995), _KINDS[kind][-1])
    return f"{plain / step:.3g} {name}" if abs(plain / step) < 1000 else f"{plain / step:,.0f} {name}"


def says_unit(unit: str) -> bool:
    """Whether `with_unit` includes the unit."""
    return unit in _STEPS


def log_locator(low: float, high: float, most: int) -> Locator:
    """Place the ticks of a logarithmic axis: at powers of ten, or more often if there are few of them."""
    decades = math.log10(high / low)
    if decades > 2:
        return LogLocator(10, numticks=most)
    if decades > 0.9:
        return LogLocator(10, subs=(1.0, 2.0, 5.0) if decades < 1.5 else (1.0, 3.0), numticks=most)
    return MaxNLocator(most - 1, steps=[1, 2, 5, 10])


def wrapped(text: str, width: float, size: float, *, bold: bool = False) -> list[str]:
    """Break a text into lines for `width` points at `size` points per letter; at least one line."""
    text = "".join(letter for letter in text if letter.isprintable())
    needed = points(text, size, bold=bold)
    if needed <= width:
        return [text]
    letters = max(8, int(len(text) * width * 0.96 / needed))
    return textwrap.wrap(text, letters) or [text]


@lru_cache(maxsize=4096)
def points(text: str, size: float, *, bold: bool = False) -> float:
    """Return the width of a text."""
    if not text.strip():
        return 0.0
    font = get_font(findfont(FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")))
    font.set_size(size, 72)
    font.set_text(text, 0.0)
    return float(font.get_width_height()[0]) / 64  # the width is in 64ths


def _plain(name: str) -> str:
    """Return the engine's name, as in "edge-prompt on ONNX Runtime"."""
    return name.lower().rpartition(" on ")[2].replace(" ", "")
