"""docs/results.md: the latest results with their charts, as text that stays the same while the results do."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.plots import write_charts
from benchmarks.report.figures import Verdict, headlines, verdicts
from benchmarks.report.folder import Folder
from benchmarks.report.page import machine_facts, took, when
from edge_prompt.storage.files import written_atomically
from edge_prompt_runtime.bench.results import Results
from edge_prompt_runtime.bench.tables import series_row

CHARTS = "results"
HEAD = """# Results

Written by `python benchmarks/all.py --report-only --docs` from what `make bench` measured, not by hand. How each figure
is made stands in [benchmarks](../benchmarks/README.md#how-each-figure-is-made); the files behind it are described in
[benchmarks.md](benchmarks.md). Figures are medians, with bootstrap intervals of 95 %; "within the noise" says that
the interval reaches across the goal.
"""

_SPECIAL = re.compile(r"([\\|<>*_\[\]#&$~])")


def write_docs(docs: Path, found: Folder) -> list[Path]:
    """Write `results.md` and `results/NAME-1.svg` and so on; charts that no result has any more go.

    Args:
        docs: The folder of documentation.
        found: What it is of.

    Returns:
        The files.

    Raises:
        WriteError: They cannot be written.
    """
    folder = docs / CHARTS
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.svg"):
        old.unlink()
    written = [path for results in found.results.values() for path in write_charts(folder, results, ("svg",))]
    with written_atomically(docs / "results.md") as stream:
        stream.write(markdown(found).encode())
    return [docs / "results.md", *written]


def markdown(found: Folder) -> str:
    """The text."""
    parts = [HEAD, "## The figures that matter\n", *_headlines(found)]
    for name, results in found.results.items():
        parts += _section(results)
        run = found.runs.get(name)
        if run and (run.quick or run.failed):
            parts.append("This is of a quick run.\n" if run.quick else f"The last run failed: {plain(run.failed)}\n")
    return "\n".join(parts)


def plain(text: str) -> str:
    """A text in which nothing is Markdown but code in backticks, on one line."""
    parts = " ".join(text.split()).split("`")
    if len(parts) % 2 == 0:
        return _SPECIAL.sub(r"\\\1", "".join(parts))
    said = (
        f"`{part.replace('|', chr(92) + '|')}`" if place % 2 else _SPECIAL.sub(r"\\\1", part)
        for place, part in enumerate(parts)
    )
    return "".join(said)


def _headlines(found: Folder) -> Iterator[str]:
    rows = []
    for headline, lines, _, _ in headlines(found.results):
        rows += [(headline.title, *_cells(one)) for one in lines] or [(headline.title, "not measured", "", "", "", "")]
    yield _table(("figure", "ratio", "median", "interval", "goal", ""), rows)


def _section(results: Results) -> Iterator[str]:
    yield f"## {plain(results.question)}\n"
    for place, chart in enumerate(results.charts, 1):
        title = plain(chart.title)
        yield f"![{title}]({CHARTS}/{results.name}-{place}.svg)\n"
    if results.ratios:
        yield _table(("ratio", "median", "interval", "goal", ""), [_cells(one) for one in verdicts(results)])
    rows = [series_row(one) for one in results.series]
    yield f"<details><summary>Medians of {len(rows)} series</summary>\n"
    yield _table(("what", "unit", "median", "interval", "p95", "p99", "samples"), rows)
    yield "</details>\n"
    for note in results.notes:
        yield f"- {plain(note)}"
    for name, reason in results.left_out.items():
        yield f"- Left out: {plain(name)}: {plain(reason)}"
    yield f"- {plain(_how(results))}\n"


def _how(results: Results) -> str:
    """What a reader needs to repeat it, in a sentence."""
    settings = ", ".join(f"{name} {value}" for name, value in results.settings.items())
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    machine = ", ".join(f"{name} {value}" for name, value in machine_facts(results.machine).items())
    commit = f" at commit `{results.commit}`" if results.commit else ""
    return (
        f"`python benchmarks/{results.name}.py`{commit}, {when(results.begun)}, {took(results.seconds)}; {settings}; "
        f"{machine}; {versions}."
    )


def _cells(one: Verdict) -> tuple[str, str, str, str, str]:
    state = one.state and f"**{one.state}**" + ("" if one.sure else ", within the noise")
    return one.name, one.value, one.between, one.goal, state


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; the last column of ratios is Markdown already."""
    lines = [head, ["---"] * len(head), *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _cell(text: str) -> str:
    return text if text.startswith("**") else plain(text)
