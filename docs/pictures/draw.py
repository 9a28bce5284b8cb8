"""Draws the pictures of the README and of the site, each in a light and a dark form: `python docs/pictures/draw.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html import escape
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).resolve().parent


class Theme(NamedTuple):
    """Colours of one form: text, quiet text, lines, the frozen network, and one colour per task."""

    text: str
    quiet: str
    line: str
    frozen: str
    card: str
    tasks: tuple[str, str, str]


THEMES = {
    "light": Theme("#1f2328", "#59636e", "#b7bfc8", "#e8eef7", "#ffffff", ("#0969da", "#c2410c", "#1a7f37")),
    "dark": Theme("#e6edf3", "#9198a1", "#4a525c", "#1c2738", "#151b23", ("#58a6ff", "#f0883e", "#3fb950")),
}


def picture(width: int, height: int, title: str, shapes: Iterable[str]) -> str:
    """An SVG of that size; `title` is read to people who cannot see it."""
    font = "-apple-system, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return "\n".join(
        [
            f'{head} role="img" aria-label="{escape(title)}" font-family="{font}" font-size="14">',
            f"<title>{escape(title)}</title>",
            *shapes,
            "</svg>\n",
        ]
    )


def words(x: float, y: float, text: str, color: str, **style: object) -> str:
    """A line of text; `anchor`, `size`, `weight` and `family` as SVG has them."""
    names = {"anchor": "text-anchor", "size": "font-size", "weight": "font-weight", "family": "font-family"}
    attributes = "".join(f' {names[name]}="{value}"' for name, value in style.items())
    return f'<text x="{x}" y="{y}" fill="{color}"{attributes}>{escape(text)}</text>'


def box(x: float, y: float, width: float, height: float, fill: str, stroke: str, **style: object) -> str:
    """A rectangle with round corners; `dash` and `corner` change how it looks."""
    dash = f' stroke-dasharray="{style["dash"]}"' if "dash" in style else ""
    place = f'x="{x}" y="{y}" width="{width}" height="{height}" rx="{style.get("corner", 8)}"'
    return f'<rect {place} fill="{fill}" stroke="{stroke}" stroke-width="1.5"{dash}/>'


def arrow(path: str, color: str, tip: tuple[float, float], **style: object) -> str:
    """A line along `path` that ends in an arrow head at `tip`, pointing to the right (or `down`)."""
    x, y = tip
    head = f"{x - 5},{y - 8} {x + 5},{y - 8}" if style.get("down") else f"{x - 8},{y - 5} {x - 8},{y + 5}"
    dash = f' stroke-dasharray="{style["dash"]}"' if "dash" in style else ""
    line = f'<path d="{path}" fill="none" stroke="{color}" stroke-width="2"{dash}/>'
    return f'{line}<polygon points="{head} {x},{y}" fill="{color}"/>'


def cells(x: float, y: float, columns: int, rows: int, color: str, size: float = 11, gap: float = 3) -> list[str]:
    """The numbers of an array, as squares of varying strength."""
    return [
        f'<rect x="{x + column * (size + gap)}" y="{y + row * (size + gap)}" width="{size}" height="{size}" rx="2" '
        f'fill="{color}" opacity="{0.35 + 0.13 * ((3 * column + 5 * row) % 6):.2f}"/>'
        for row in range(rows)
        for column in range(columns)
    ]


def layers(x: float, y: float, width: float, count: int, theme: Theme, step: float = 34) -> list[str]:
    """The layers of a frozen network, one above the other, the first at the bottom."""
    drawn = []
    for layer in range(count):
        top = y + layer * step
        drawn.append(box(x, top, width, step - 10, theme.card, theme.line, corner=5))
        name = f"layer {count - layer}"  # the request enters below
        drawn.append(words(x + width / 2, top + 16.5, name, theme.quiet, anchor="middle", size=12))
    return drawn


def snowflake(x: float, y: float, color: str, size: float = 9) -> str:
    """The sign for frozen."""
    arms = "".join(
        f'<g transform="rotate({60 * arm})"><path d="M0 0V{-size}M-3 {-size + 1}L0 {-size + 4}L3 {-size + 1}"/></g>'
        for arm in range(6)
    )
    return f'<g transform="translate({x} {y})" stroke="{color}" stroke-width="1.5" fill="none">{arms}</g>'


def draw_swap(theme: Theme) -> str:
    """One frozen network, three prompts, and the prompt of each request going in with it."""
    rows = [
        ("“a fine film”", "reviews.npy", "positive"),
        ("“buy now!!!”", "spam.npy", "spam"),
        ("“oil prices rose”", "topics.npy", "energy"),
    ]
    shapes = [
        words(95, 28, "requests", theme.quiet, anchor="middle", size=13),
        words(318, 28, "prompts: kilobytes each", theme.quiet, anchor="middle", size=13),
        words(568, 28, "one network, loaded once", theme.quiet, anchor="middle", size=13),
        words(792, 28, "answers", theme.quiet, anchor="middle", size=13),
        box(478, 46, 180, 266, theme.frozen, theme.line, corner=12),
        snowflake(530, 74, theme.tasks[0]),
        words(546, 79, "frozen", theme.text, weight=600),
        *layers(498, 98, 140, 6, theme),
    ]
    for row, ((request, file, answer), color) in enumerate(zip(rows, theme.tasks, strict=True)):
        y = 86 + row * 92
        into = f"M400 {y}C440 {y} 440 {y + (1 - row) * 46} 474 {y + (1 - row) * 46}"
        out = f"M660 {y + (1 - row) * 46}C696 {y + (1 - row) * 46} 696 {y} 720 {y}"
        shapes += [
            box(16, y - 22, 158, 44, theme.card, theme.line, corner=22),
            words(95, y + 5, request, theme.text, anchor="middle"),
            arrow(f"M174 {y}H226", theme.line, (232, y)),
            box(236, y - 34, 164, 68, theme.card, color),
            *cells(250, y - 23, 10, 2, color),
            words(250, y + 24, file, theme.text, size=13, family="ui-monospace, 'DejaVu Sans Mono', monospace"),
            arrow(into, color, (477, y + (1 - row) * 46)),
            arrow(out, color, (728, y)),
            box(732, y - 20, 120, 40, theme.card, color, corner=20),
            words(792, y + 5, answer, theme.text, anchor="middle", weight=600),
            _moving_dot(into, out, color, row),
        ]
    return picture(
        868,
        326,
        "One frozen network stays in memory; each request brings the small prompt file of its task",
        shapes,
    )


def _moving_dot(into: str, out: str, color: str, row: int) -> str:
    """A dot that goes in on the prompt's line and comes out on the answer's, each task in turn."""
    dots = []
    for path, begin in ((into, 2 * row), (out, 2 * row + 1)):
        start, end = begin / 6, (begin + 1) / 6
        times, shown = f"0;{start:.3f};{end:.3f};1", f"0;{start:.3f};{end:.3f}"
        dots.append(
            f'<circle r="5" fill="{color}" opacity="0">'
            f'<animateMotion path="{path}" dur="6s" repeatCount="indefinite" calcMode="linear" '
            f'keyPoints="0;0;1;1" keyTimes="{times}"/>'
            f'<animate attributeName="opacity" values="0;1;0" keyTimes="{shown}" calcMode="discrete" dur="6s" '
            'repeatCount="indefinite"/></circle>'
        )
    return "".join(dots)


def draw_kinds(theme: Theme) -> str:
    """Where each kind of prompt enters: soft before the tokens, prefix and deep in every layer, pixel on the image."""
    soft, prefix, pixel = theme.tasks
    shapes = []
    columns = [("soft", soft), ("prefix", prefix), ("deep", prefix), ("pixel", pixel)]
    notes = ["virtual tokens", "keys and values", "virtual tokens", "numbers added"]
    where = ["before the tokens", "in every attention", "at every layer", "to the image"]
    for column, ((kind, color), what, place) in enumerate(zip(columns, notes, where, strict=False)):
        x = 16 + column * 212
        shapes += [
            words(x + 92, 26, kind, color, anchor="middle", size=17, weight=700),
            words(x + 92, 48, what, theme.text, anchor="middle", size=13),
            words(x + 92, 66, place, theme.text, anchor="middle", size=13),
            box(x, 82, 184, 146, theme.frozen, theme.line, corner=12),
            *layers(x + 66, 98, 102, 4, theme, step=32),
        ]
        if kind in {"prefix", "deep"}:
            for layer in range(4):
                y = 98 + layer * 32
                shapes += (
                    cells(x + 10, y + 2, 4, 2, color, 7) if kind == "prefix" else cells(x + 10, y + 5, 3, 1, color)
                )
                shapes.append(f'<path d="M{x + 54} {y + 11}H{x + 65}" stroke="{color}" stroke-width="2"/>')
        if kind == "soft":
            shapes += [*cells(x + 12, 256, 4, 1, color), *cells(x + 74, 256, 7, 1, theme.quiet)]
        elif kind == "pixel":
            shapes += [*cells(x + 84, 252, 5, 3, theme.quiet), *_frame(x + 84, 252, color)]
        else:
            shapes += cells(x + 74, 256, 7, 1, theme.quiet)
        shapes.append(
            f'<path d="M{x + 117} 244V231" stroke="{theme.line}" stroke-width="2"/>'
            f'<polygon points="{x + 112},236 {x + 122},236 {x + 117},229" fill="{theme.line}"/>'
        )
    shapes.append(words(432, 318, "coloured: the prompt; grey: the request", theme.quiet, anchor="middle", size=13))
    return picture(868, 330, "Where the four kinds of prompt enter a frozen network", shapes)


def _frame(x: float, y: float, color: str) -> list[str]:
    """A frame around the cells of a small image."""
    return [
        f'<rect x="{x - 4}" y="{y - 4}" width="75" height="47" rx="4" fill="none" stroke="{color}" stroke-width="5"/>'
    ]


def draw_folding(theme: Theme) -> str:
    """A deep prompt is run through its layers once; its keys and values are the prefix that requests then use."""
    color = theme.tasks[1]
    shapes = [
        words(140, 28, "deep prompt", theme.text, anchor="middle", weight=600),
        words(434, 28, "folded once, when it is loaded", theme.text, anchor="middle", weight=600),
        words(738, 28, "prefix", theme.text, anchor="middle", weight=600),
    ]
    for layer in range(4):
        y = 66 + layer * 56
        shapes += [
            words(20, y + 14, f"layer {layer + 1}", theme.quiet, size=13),
            *cells(88, y, 8, 1, color, size=14),
            arrow(f"M236 {y + 7}H284", color, (292, y + 7)),
            box(296, y - 12, 276, 38, theme.frozen, theme.line),
            words(434, y + 12, "normalise, project to key and value", theme.text, anchor="middle", size=13),
            arrow(f"M576 {y + 7}H624", color, (632, y + 7)),
            words(642, y + 4, "K", theme.quiet, size=12),
            words(642, y + 20, "V", theme.quiet, size=12),
            *cells(660, y - 6, 8, 2, color, size=13),
        ]
    shapes.append(
        words(
            434,
            300,
            "The outputs of the virtual tokens are discarded at every layer, so nothing else of them is needed.",
            theme.quiet,
            anchor="middle",
            size=13,
        )
    )
    return picture(868, 316, "Folding a deep prompt to a prefix", shapes)


def draw_compiling(theme: Theme) -> str:
    """The prompt is read once; its keys and values are kept, and every request starts from them."""
    color = theme.tasks[0]
    shapes = [
        words(20, 40, "once, when the prompt is loaded", theme.text, weight=600),
        *cells(20, 66, 8, 1, color, size=14),
        arrow("M166 73H222", color, (230, 73)),
        box(234, 50, 170, 46, theme.frozen, theme.line),
        words(319, 78, "network, no text", theme.text, anchor="middle", size=13),
        arrow("M408 73H464", color, (472, 73)),
        box(476, 46, 200, 54, theme.card, color),
        *cells(492, 56, 10, 2, color, size=14),
        words(690, 78, "keys and values, kept", theme.text, size=13),
        words(20, 158, "every request", theme.text, weight=600),
    ]
    for row, text in enumerate(("Where is my parcel?", "Can I return it?")):
        y = 196 + row * 56
        shapes += [
            *cells(20, y - 15, 4, 2, color, size=13),
            box(96, y - 20, 164, 40, theme.card, theme.line, corner=20),
            words(178, y + 5, text, theme.text, anchor="middle", size=13),
            arrow(f"M264 {y}H320", theme.line, (328, y)),
            box(332, y - 22, 170, 44, theme.frozen, theme.line),
            words(417, y + 5, "reads the text alone", theme.text, anchor="middle", size=13),
            arrow(f"M506 {y}H562", theme.line, (570, y)),
            words(580, y + 5, "first token", theme.text, size=13),
        ]
    return picture(868, 286, "Compiling a soft prompt to keys and values", shapes)


PICTURES: dict[str, Callable[[Theme], str]] = {
    "swap": draw_swap,
    "kinds": draw_kinds,
    "folding": draw_folding,
    "compiling": draw_compiling,
}


def drawn() -> dict[Path, str]:
    """Every picture in both forms, by the file it belongs in."""
    return {
        FOLDER / f"{name}-{form}.svg": draw(theme) for name, draw in PICTURES.items() for form, theme in THEMES.items()
    }


if __name__ == "__main__":
    for path, text in drawn().items():
        path.write_text(text, encoding="utf-8")
