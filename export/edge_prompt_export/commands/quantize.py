"""`edge-prompt quantize BUNDLE OUTPUT --images FOLDER`."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from edge_prompt.base.progress import log_to_stderr
from edge_prompt_export.compression.quantize import MOST_IMAGES, quantize_bundle


@click.command("quantize")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("output", type=click.Path(path_type=Path))
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of images to calibrate on, similar to those that the bundle will read; 100 are enough, and at most "
    f"{MOST_IMAGES} are used.",
)
@click.option(
    "--prompt",
    "prompts",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Prompt to calibrate with; repeat the option for several.  [default: the prompts in the bundle]",
)
def command(bundle: Path, output: Path, images: Path, prompts: tuple[Path, ...]) -> None:
    """Quantise the graphs of an image bundle to int8.

    The graphs are calibrated on images, both with prompts and without. OUTPUT is the bundle to write. Prompts for
    BUNDLE remain valid for it. Prompts, heads and the folding of deep prompts stay in full precision. The command
    compares the int8 graphs with BUNDLE. If they differ too much, it deletes OUTPUT and fails.
    """
    log_to_stderr(logging.INFO)
    written = quantize_bundle(bundle, output, images, prompts)
    for engine, graph in written.manifest.graphs.items():
        size_bytes = sum((written.folder / name).stat().st_size for name in graph.sha256)
        worst = written.manifest.parity[engine]["fp32"]
        click.echo(
            f"{engine}: {size_bytes:,} bytes; features differ from fp32 by at most {worst:.1e}, relative to the largest"
        )
    click.echo(f"wrote {output}, which takes the same prompts as {bundle}")
