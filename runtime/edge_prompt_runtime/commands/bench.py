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
from edge_prompt.storage.files import explained
from edge_prompt.storage.temporaries import temporary_file
from edge_prompt_runtime.bench.comparison import compare
from edge_prompt_runtime.bench.comparison_table import print_comparison
from edge_prompt_runtime.bench.measurement import measure
from edge_prompt_runtime.bench.plan import DEFAULT_LENGTHS, DEFAULT_TOKENS, Plan
from edge_prompt_runtime.bench.results import as_written, read_results, write_results
from edge_prompt_runtime.bench.setting import Tell
from edge_prompt_runtime.bench.tables import print_results
from edge_prompt_runtime.commands.engine_options import cores_option
from edge_prompt_runtime.engines.base import ENGINES
from edge_prompt_runtime.engines.settings import PRECISIONS

ABOUT_A_FILE = frozenset({"bundle", "compare_with"})
"""What may be given beside a file of results, which is not measured anew."""


def _image_size(_context: click.Context, _option: click.Parameter, value: str) -> tuple[int, int]:
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", value)
    if found is None:
        raise click.BadParameter(f"{value!r} is no height and width, such as 480x640")
    return int(found[1]), int(found[2])


def _lengths(_context: click.Context, _option: click.Parameter, value: str) -> tuple[int, ...]:
    parts = [part.strip() for part in value.split(",") if part.strip()]
    if not all(re.fullmatch(r"[1-9]\d{0,5}", part) for part in parts):
        raise click.BadParameter(f"{value!r} is no list of lengths, such as 8,32,64")
    return tuple(sorted({int(part) for part in parts}))


@click.command("bench")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--prompt", "prompts", type=click.Path(path_type=Path), multiple=True, help="A task's .npy file, again.")
@click.option("--kind", help="The kind of bare .npy files whose shape leaves it open.")
@click.option("--engine", "engines", type=click.Choice(list(ENGINES)), multiple=True, help="[default: all installed]")
@click.option("--threads", type=click.IntRange(1), help="The same for all engines.  [default: as many as cores]")
@cores_option
@click.option("--precision", type=click.Choice(PRECISIONS), default="f32", show_default=True)
@click.option("--batch", type=click.IntRange(1, 4096), default=1, show_default=True, help="Rows of a request.")
@click.option("--tokens", type=click.IntRange(1), help=f"Of a row of text.  [default: {DEFAULT_TOKENS}, or what fits]")
@click.option("--new-tokens", type=click.IntRange(1), default=32, show_default=True, help="Of a language model.")
@click.option("--image-size", callback=_image_size, default="480x640", show_default=True, help="Height x width.")
@click.option(
    "--lengths",
    callback=_lengths,
    default=",".join(map(str, DEFAULT_LENGTHS)),
    show_default=True,
    help="Virtual tokens of made-up prompts; empty for none.",
)
@click.option("--rounds", type=click.IntRange(1), default=200, show_default=True, help="Samples, at most.")
@click.option("--seconds", type=click.FloatRange(0), default=60, show_default=True, help="For requests, about.")
@click.option("--starts", type=click.IntRange(0), default=7, show_default=True, help="Fresh processes an engine.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write every sample to this file.")
@click.option(
    "--compare", "compare_with", type=click.Path(path_type=Path), help="Say what changed since this file was written."
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
    """Measure BUNDLE on this machine: requests, swaps, loading and memory, on each engine.

    In place of a bundle, BUNDLE may be a file that --json wrote: it is shown, or compared, and nothing is measured.
    docs/how_to/benchmark_a_device.md says how each figure is made.
    """
    old = None if compare_with is None else read_results(compare_with)
    if bundle.is_file():
        _refuse_settings(context)
        new = read_results(bundle)
    else:
        if json_file is not None:
            _require_writable(json_file)
        plan = Plan(bundle, cores=None if cores is None else tuple(cores), **asked)
        with _watched() as tell:
            new = as_written(measure(plan, tell))
        if json_file is not None:
            write_results(json_file, new)
    if old is None or not bundle.is_file():
        print_results(new)
    if old is not None:
        print_comparison(compare(old, new))


def _refuse_settings(context: click.Context) -> None:
    """Refuse what only has a meaning where something is measured."""
    for name in context.params:
        given = context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE
        if given and name not in ABOUT_A_FILE:
            option = next(one.opts[0] for one in context.command.params if one.name == name)
            raise click.UsageError(f"{option} is for measuring a bundle, and BUNDLE is a file of results")


def _require_writable(path: Path) -> None:
    """Refuse a place where nothing can be written before anything is measured; nothing is left there.

    Raises:
        WriteError: Nothing can be written there.
    """
    if path.is_dir():
        raise WriteError(found=f"{path} is a folder", wanted="a file to write", remedy="choose another name")
    folder = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    with explained(path), temporary_file(folder / path.name):
        pass


@contextmanager
def _watched() -> Iterator[Tell]:
    """How far it is, on standard error, if a person is watching that; drawn between rounds, never while one runs."""
    if not sys.stderr.isatty():
        yield lambda _what, _done, _of: None
        return
    with Progress(console=Console(stderr=True), auto_refresh=False, transient=True) as progress:
        bar = progress.add_task("opening")

        def tell(what: str, done: int, of: int) -> None:
            progress.update(bar, description=what, completed=done, total=of, refresh=True)

        yield tell
