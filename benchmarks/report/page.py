"""The report: one HTML file that contains everything, makes no network requests and runs no script."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from benchmarks.charts.axes import beyond
from benchmarks.charts.figures import NARROW, WIDE
from benchmarks.charts.style import with_unit
from benchmarks.report.figures import Verdict, headlines, verdicts
from benchmarks.report.folder import Folder, Run
from benchmarks.report.inline import svg
from edge_prompt.storage.files import written_atomically
from edge_prompt_runtime.bench.results import Chart, Results, Series
from edge_prompt_runtime.bench.tables import series_row

HERE = Path(__file__).resolve().parent
MOST_SHOWN = 1_000
"""Maximum of samples per series in the page; the downloadable file has all."""

COLUMNS = ("what", "unit", "median", "95 % interval", "p95", "p99", "samples")


class Section(NamedTuple):
    """A question, as the template shows it."""

    id: str
    results: Results
    tally: str
    alarms: list[str]
    charts: list[dict[str, str]]
    verdicts: list[Verdict]
    columns: list[str]
    series: list[list[str]]
    samples: list[dict[str, str]]
    download: str
    bytes: str
    when: str
    facts: dict[str, str]


def write_page(path: Path, found: Folder) -> None:
    """Write the report.

    Args:
        path: The file.
        found: The contents of the folder.

    Raises:
        WriteError: It cannot be written.
    """
    with written_atomically(path) as stream:
        stream.write(page(found).encode())


def page(found: Folder) -> str:
    """Return the report as HTML."""
    ids = {name: f"q{place}" for place, name in enumerate(found.results, 1)}
    missing = {name: run for name, run in found.runs.items() if run.failed and name not in found.results}
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["prose"] = prose
    template = environment.from_string((HERE / "page.html").read_text(encoding="utf-8"))
    return template.render(
        css=Markup((HERE / "page.css").read_text(encoding="utf-8")),  # noqa: S704 (a file of ours)
        subtitle=_subtitle(found.results),
        quick=any(run.quick for name, run in found.runs.items() if name in found.results),
        alarms=[f"{name} failed: {run.failed}" for name, run in missing.items()],
        headlines=list(headlines(found.results)),
        ids=ids,
        sections=[_section(ids[name], name, found) for name in found.results],
        machine=_machine(found.results),
        runs=[_run(run) for run in found.runs.values()],
        unreadable=found.unreadable,
    )


def prose(text: str) -> Markup:
    """Escape a text and format what is in backticks as code."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    code = Markup("<code>{}</code>")
    return Markup().join(code.format(part) if place % 2 else part for place, part in enumerate(parts))


def _section(identity: str, name: str, found: Folder) -> Section:
    results, run = found.results[name], found.runs.get(name)
    ratios = verdicts(results)
    with_goal = [one for one in ratios if one.state]
    met = sum(one.state == "met" for one in with_goal)
    rows = [series_row(one) for one in results.series]
    shown = [place for place in range(len(COLUMNS)) if any(row[place] for row in rows)]
    return Section(
        id=identity,
        results=results,
        tally=f"{met} of {len(with_goal)} goals met" if with_goal else "",
        alarms=_alarms(results, run),
        charts=[_chart(results, chart, f"{identity}-{place}") for place, chart in enumerate(results.charts, 1)],
        verdicts=ratios,
        columns=[COLUMNS[place] for place in shown],
        series=[[row[place] for place in shown] for row in rows],
        samples=[_samples(one) for one in results.series],
        download="data:application/json;base64," + base64.b64encode(found.files[name]).decode(),
        bytes=with_unit(len(found.files[name]), "bytes"),
        when=when(results.begun),
        facts=facts(results),
    )


def _alarms(results: Results, run: Run | None) -> list[str]:
    if run is None or not run.failed:
        return []
    return [f"The last run failed: {run.failed} What follows was measured on {when(results.begun)}."]


def _chart(results: Results, chart: Chart, unique: str) -> dict[str, str]:
    series = [results.find(name) for name in chart.series]
    said = "; ".join(f"{one.name}: {with_unit(one.median.value, one.unit)}" for one in series)
    limits = "; ".join(f"{name}: {with_unit(value, series[0].unit)}" for name, value in chart.limits.items())
    more = "more" if series[0].higher_is_better else "less"
    mark = "Marks" if chart.x or chart.log else "Bars"
    counts = {len(one.samples) for one in series}
    reading = f"{mark} are medians" + ("; " if counts == {1} else ", short lines their intervals, dots samples; ")
    tails = beyond(chart, series)
    return {
        "title": chart.title,
        "reading": f"{reading}{more} is better."
        + (" Logarithmic." if chart.log else "")
        + (f" {tails}." if tails else ""),
        "says": f"{chart.title}, medians in {series[0].unit}: {said}." + (f" Limits: {limits}." if limits else ""),
        "wide": Markup(svg(results, chart, WIDE, f"{unique}-w")),  # noqa: S704 (escaped by the writer of XML)
        "narrow": Markup(svg(results, chart, NARROW, f"{unique}-n")),  # noqa: S704
    }


def _samples(one: Series) -> dict[str, str]:
    shown = " ".join(f"{sample:.6g}" for sample in one.samples[:MOST_SHOWN])
    rest = len(one.samples) - MOST_SHOWN
    return {
        "name": one.name,
        "unit": one.unit,
        "text": shown + (f" … and {rest:,} more in the file" if rest > 0 else ""),
    }


def facts(results: Results) -> dict[str, str]:
    """Return date, duration, settings and versions of a benchmark."""
    return {
        "script": f"benchmarks/questions/{results.name}.py",
        "begun": when(results.begun),
        "took": took(results.seconds),
        "commit": results.commit or "not of a checkout",
        **{name: str(value) for name, value in results.settings.items()},
        **results.versions,
    }


def _machine(results: Mapping[str, Results]) -> dict[str, str]:
    """Return the machine of the last run; if runs were on several, their sections say so."""
    newest = max(results.values(), key=lambda one: one.begun, default=None)
    return machine_facts(newest.machine) if newest else {}


def machine_facts(machine: Mapping[str, Any]) -> dict[str, str]:
    """Describe a machine."""
    return {
        name.removesuffix("_bytes").replace("_", " "): with_unit(value, "bytes")
        if name.endswith("_bytes") and isinstance(value, int | float)
        else str(value)
        for name, value in machine.items()
    }


def _subtitle(results: Mapping[str, Results]) -> str:
    """List machines, days and commits, each once."""
    ordered = sorted(results.values(), key=lambda one: one.begun)
    if not ordered:
        return "Nothing has been measured yet."
    machines = dict.fromkeys(
        f"{one.machine.get('processor', 'unknown')}, {one.machine.get('cores', '?')} cores" for one in ordered
    )
    days = dict.fromkeys(when(one.begun).partition(",")[0] for one in ordered)
    commits = list(dict.fromkeys(one.commit for one in ordered if one.commit))
    span = " to ".join(dict.fromkeys((next(iter(days)), next(reversed(days)))))
    of = f"{'commits' if len(commits) > 1 else 'commit'} {', '.join(commits)}" if commits else ""
    return " · ".join(filter(None, (" and ".join(machines), span, of)))


def _run(run: Run) -> dict[str, str]:
    ended = f"failed: {run.failed}" if run.failed else "well"
    return {"name": run.name, "took": took(run.seconds), "ended": ended + (", quick" if run.quick else "")}


def when(begun: str) -> str:
    """Format a moment; anything else stays as written."""
    try:
        moment = datetime.fromisoformat(begun)
    except ValueError:
        return begun
    return f"{moment.day} {moment:%B %Y, %H:%M}"


def took(seconds: float) -> str:
    """Format a duration."""
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
