"""`edge-prompt bench BUNDLE [--prompt TASK.npy]… [--compare OLD.json]`."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress

from edge_prompt.base.errors import WriteError
from edge_prompt.storage.files import write_errors
from edge_prompt.storage.temporaries import temporary_file
from edge_prompt_runtime.bench.comparison import compare
from edge_prompt_runtime.bench.comparison_table import print_comparison
from edge_prompt_runtime.bench.measurement import measure
from edge_prompt_runtime.bench.plan import DEFAULT_LENGTHS, DEFAULT_TOKENS, Plan
from edge_prompt_runtime.bench.results import as_written, read_results, write_results
from edge_prompt_runtime.bench.setting import ReportProgress
from edge_prompt_runtime.bench.tables import print_results
from edge_prompt_runtime.commands.engine_options import cores_option
from edge_prompt_runtime.engines.base import ENGINES
from edge_prompt_runtime.engines.options import PRECISIONS

ABOUT_A_FILE = frozenset({"bundle", "compare_with"})
"""The parameters that are allowed with a results file, for which nothing is measured."""


def _image_size(_context: click.Context, _option: click.Parameter, value: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", value)
    if found is None:
        raise click.BadParameter(f"{value!r} is not a height and width such as 480x640")
    return int(found[1]), int(found[2])


def _lengths(_context: click.Context, _option: click.Parameter, value: str) -> tuple[int, ...]:
    parts = [part.strip() for part in value.split(",") if part.strip()]
    if not all(re.fullmatch(r"[1-9]\d{0,5}", part) for part in parts):
        raise click.BadParameter(f"{value!r} is not a list of lengths such as 8,32,64")
    return tuple(sorted({int(part) for part in parts}))


@click.command("bench")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--prompt", "prompts", type=click.Path(path_type=Path), multiple=True, help="Prompt (.npy); may be repeated."
)
@click.option("--kind", help="Kind of the prompts, if they have no card and their shape is ambiguous.")
@click.option(
    "--engine",
    "engines",
    type=click.Choice(list(ENGINES)),
    multiple=True,
    help="Engine to measure; may be repeated.  [default: all installed]",
)
@click.option("--threads", type=click.IntRange(1), help="Number of threads per engine.  [default: one per core]")
@cores_option
@click.option(
    "--precision", type=click.Choice(PRECISIONS), default="f32", show_default=True, help="Precision of the computation."
)
@click.option("--batch", type=click.IntRange(1, 4096), default=1, show_default=True, help="Batch size of a request.")
@click.option(
    "--tokens",
    type=click.IntRange(1),
    help=f"Number of tokens per row of text.  [default: {DEFAULT_TOKENS}, or fewer if they do not fit]",
)
@click.option(
    "--new-tokens",
    type=click.IntRange(1),
    default=32,
    show_default=True,
    help="Number of tokens that a language model generates.",
)
@click.option(
    "--image-size",
    callback=_image_size,
    default="480x640",
    show_default=True,
    help="Size of the input image, as HEIGHTxWIDTH.",
)
@click.option(
    "--lengths",
    callback=_lengths,
    default=",".join(map(str, DEFAULT_LENGTHS)),
    show_default=True,
    help="Numbers of virtual tokens of the random prompts; empty for no random prompts.",
)
@click.option("--rounds", type=click.IntRange(1), default=200, show_default=True, help="Maximum number of samples.")
@click.option(
    "--seconds",
    type=click.FloatRange(0),
    default=60,
    show_default=True,
    help="Approximate time limit for requests, in seconds.",
)
@click.option("--starts", type=click.IntRange(0), default=7, show_default=True, help="Fresh processes per engine.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all samples to this file.")
@click.option(
    "--compare", "compare_with", type=click.Path(path_type=Path), help="Compare with the results in this file."
)
@click.pass_context
def command(
    context: click.Context,
    /,
    bundle: Path,
    json_file: Path | None,
    compare_with: Path | None,
    cores: list[int] | None,
    **asked: Any,
) -> None:
    """Benchmark BUNDLE on this machine: requests, prompt swaps, loading and memory on each engine.

    BUNDLE may also be a results file written by --json, which is then shown or compared without measuring anything.
    docs/how_to/benchmark_a_device.md describes how each figure is measured.
    """
    old = None if compare_with is None else read_results(compare_with)
    if bundle.is_file():
        _refuse_settings(context)
        new = read_results(bundle)
    else:
        if json_file is not None:
            _require_writable(json_file)
        plan = Plan(bundle, cores=None if cores is None else tuple(cores), **asked)
        with _progress_bar() as tell:
            new = as_written(measure(plan, tell))
        if json_file is not None:
            write_results(json_file, new)
    if old is None or not bundle.is_file():
        print_results(new)
    if old is not None:
        print_comparison(compare(old, new))


def _refuse_settings(context: click.Context) -> None:
    """Reject options that only apply to a measurement."""
    for name in context.params:
        given = context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE
        if given and name not in ABOUT_A_FILE:
            option = next(one.opts[0] for one in context.command.params if one.name == name)
            raise click.UsageError(f"{option} applies only to a bundle, but BUNDLE is a results file")


def _require_writable(path: Path) -> None:
    """Check, before anything is measured, that `path` can be written. Nothing is left there.

    Raises:
        WriteError: The file cannot be written.
    """
    if path.is_dir():
        raise WriteError(found=f"{path} is a folder", wanted="a file to write", remedy="choose another name")
    folder = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    with write_errors(path), temporary_file(folder / path.name):
        pass


@contextmanager
def _progress_bar() -> Iterator[ReportProgress]:
    """Show progress on standard error if it is a terminal. It is drawn between rounds, never during one."""
    if not sys.stderr.isatty():
        yield lambda _what, _done, _of: None
        return
    with Progress(console=Console(stderr=True), auto_refresh=False, transient=True) as progress:
        bar = progress.add_task("opening")

        def tell(what: str, done: int, of: int) -> None:
            progress.update(bar, description=what, completed=done, total=of, refresh=True)

        yield tell
