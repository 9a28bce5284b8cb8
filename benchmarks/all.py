"""Run every benchmark, one after the other, and write one report.

    python benchmarks/all.py            everything; `make bench`
    python benchmarks/all.py --quick    few samples; `make bench-quick`
    python benchmarks/all.py --only swap --only prompt_cost
    python benchmarks/all.py --report-only    measure nothing; write the report of existing results

A script that fails is reported and does not stop the others. Results, charts and the report go to `.cache/bench` only;
`docs/results.md` is a selection from a full run, edited by hand, and its six charts are copies from there.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchmarks.lib.processes import run_script
from benchmarks.lib.publish import OUTPUT
from benchmarks.report.figures import verdicts
from benchmarks.report.folder import LOGS, Run, read_folder, read_runs, write_runs
from benchmarks.report.page import took, write_page
from edge_prompt.base.errors import EdgePromptError
from edge_prompt_runtime.bench.results import read_results


class Script(NamedTuple):
    """A script of this folder.

    Attributes:
        name: Name without its suffix.
        full: Arguments of a full run.
        quick: Arguments of a quick run in addition to `--quick`.
        minutes: Time limit, after which it is stopped. The limit of a quick run is `QUICK_MINUTES`.
    """

    name: str
    full: tuple[str, ...] = ()
    quick: tuple[str, ...] = ()
    minutes: float = 20


SCRIPTS = (
    Script("swap"),
    Script("many_tasks"),
    Script("prompt_cost", quick=("--engine", "onnxruntime")),
    Script("language"),
    Script("footprint"),
    Script("mixed_batch"),
    Script("batching"),
    Script("generation"),
    Script("weights"),
    Script("vision_precision"),
    Script("quality", minutes=40),
    Script("vision_quality", minutes=40),
    Script("device_install"),
    Script("export_time"),
)
"""In the order of the report. A missing script is reported as failed."""

HERE = Path(__file__).resolve().parent
PREPARE = "peers/prepare"
"""Prepares the peers; scripts report the failures as left out."""

PREPARE_MINUTES = 60.0
QUICK_MINUTES = 10.0
REPORT = "report.html"
ORDER = tuple(script.name for script in SCRIPTS)


def run_all(scripts: Sequence[Script], output: Path, threads: int, *, quick: bool, console: Console) -> None:
    """Prepare the peers, then run each script in a process of its own, and record the outcome.

    Args:
        scripts: The scripts.
        output: Folder of results; logs go below it.
        threads: Number of threads, the same for all.
        quick: Whether to take few samples.
        console: Where progress is shown.
    """
    own = (*(("--quick",) if quick else ()), "--threads", str(threads), "--output", str(output))
    steps = [(Script(PREPARE, minutes=PREPARE_MINUTES), ())]
    steps += [(script, (*own, *(script.quick if quick else script.full))) for script in scripts]
    runs = read_runs(output)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        shown = progress.add_task("", total=len(steps))
        for script, arguments in steps:
            progress.update(shown, description=script.name)
            minutes = QUICK_MINUTES if quick and script.name != PREPARE else script.minutes
            path = HERE / (f"{script.name}.py" if script.name == PREPARE else f"questions/{script.name}.py")
            run = run_script(script.name, path, arguments, output / LOGS, minutes * 60, quick=quick)
            runs[script.name] = run
            write_runs(output, runs)
            progress.console.print(_progress(run, output), highlight=False, soft_wrap=True)
            progress.advance(shown)


def _progress(run: Run, output: Path) -> str:
    """Return the outcome of a script in one line."""
    if run.failed:
        return f"[red]failed[/] {run.name}, {took(run.seconds)}: {escape(run.failed)}"
    try:
        found = verdicts(read_results(output / f"{run.name}.json"))
    except EdgePromptError:
        return f"[green]done[/]   {run.name}, {took(run.seconds)}"
    goals = [one.state for one in found if one.state]
    return f"[green]done[/]   {run.name}, {took(run.seconds)}" + (
        f", {goals.count('met')} of {len(goals)} goals met" if goals else ""
    )


@click.command()
@click.option("--quick", is_flag=True, help="Few samples, a few minutes; not meant for results.")
@click.option("--only", multiple=True, type=click.Choice(ORDER), help="Run only this script; repeatable.")
@click.option(
    "--threads", type=click.IntRange(1), default=2, show_default=True, help="Number of threads, the same for all."
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Folder of results.  [default: .cache/bench, or .cache/bench/quick]",
)
@click.option("--report-only", is_flag=True, help="Measure nothing; write the report of the results in the folder.")
def main(*, quick: bool, only: tuple[str, ...], threads: int, output: Path | None, report_only: bool) -> None:
    """Run all benchmarks and write a report."""
    console = Console(stderr=True)
    output = (output or (OUTPUT / "quick" if quick else OUTPUT)).resolve()
    output.mkdir(parents=True, exist_ok=True)
    if not report_only:
        scripts = [script for script in SCRIPTS if not only or script.name in only]
        run_all(scripts, output, threads, quick=quick, console=console)
    found = read_folder(output, ORDER)
    write_page(output / REPORT, found)
    console.print(f"The report: {output / REPORT}", highlight=False, soft_wrap=True)
    if not report_only and any(found.runs[name].failed for name in only or ORDER):
        sys.exit(1)


if __name__ == "__main__":
    main()
