"""Publish the results of a benchmark: a table, a JSON file with every sample, and charts.

A script asks one question, the first line of its docstring. It measures series and passes them to `publish`.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import click

from benchmarks.charts.figures import write_charts
from edge_prompt_runtime.bench.machine import machine, versions
from edge_prompt_runtime.bench.results import Chart, Ratio, Results, Series, as_written, write_results
from edge_prompt_runtime.bench.tables import print_results
from examples.real_data import CACHE, ROOT

OUTPUT = CACHE / "bench"


class Measured(NamedTuple):
    """The measurements of a script; see `Results` for each."""

    series: tuple[Series, ...]
    ratios: tuple[Ratio, ...] = ()
    charts: tuple[Chart, ...] = ()
    left_out: Mapping[str, str] = {}
    notes: tuple[str, ...] = ()

    def and_also(self, other: Measured) -> Measured:
        """Join the measurements of one network or engine with those of another."""
        return Measured(
            self.series + other.series,
            self.ratios + other.ratios,
            self.charts + other.charts,
            {**self.left_out, **other.left_out},
            self.notes + other.notes,
        )


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of every script: `--quick`, `--threads` and `--output`."""
    for option in (
        click.option(
            "--output",
            type=click.Path(path_type=Path),
            default=OUTPUT,
            help="Folder of results.  [default: .cache/bench]",
        ),
        click.option(
            "--threads",
            type=click.IntRange(1),
            default=2,
            show_default=True,
            help="Number of threads, the same for all.",
        ),
        click.option("--quick", is_flag=True, help="Few samples, well under a minute; not meant for results."),
    ):
        command = option(command)
    return command


def publish(
    script: str, docstring: str | None, output: Path, settings: Mapping[str, Any], measure: Callable[[], Measured]
) -> Results:
    """Measure, print the table, and write `NAME.json`, `NAME-1.svg`, `NAME-1.png` and so on into `output`.

    Args:
        script: The script's `__file__`.
        docstring: Its `__doc__`.
        output: The folder.
        settings: The settings to record.
        measure: The measurement.
    """
    begun, start = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    where = machine()
    found = measure()
    measured = Results(
        name=Path(script).stem,
        question=(docstring or "").partition("\n")[0],
        begun=begun,
        seconds=round(time.monotonic() - start, 1),
        machine=where,
        versions=versions(),
        settings=settings,
        commit=commit(),
        **found._asdict(),
    )
    results = as_written(measured)
    print_results(results)
    output.mkdir(parents=True, exist_ok=True)
    write_results(output / f"{results.name}.json", results)
    write_charts(output, results)
    return results


def milliseconds(samples_us: Sequence[float]) -> tuple[float, ...]:
    """Convert microseconds to milliseconds."""
    return tuple(sample / 1000 for sample in samples_us)


def commit() -> str:
    """Return the commit of this checkout, with a `+` if files differ from it; empty outside of git."""
    try:
        said = subprocess.run(
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return said.stdout.strip()
