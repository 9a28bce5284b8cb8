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
    help=f"A folder of images like those to come; 100 to {MOST_IMAGES} are enough, and no more are taken.",
)
@click.option(
    "--prompt",
    "prompts",
    type=click.Path(path_type=Path),
    multiple=True,
    help="A prompt that will be used; may be given again.  [default: those in the bundle]",
)
def command(bundle: Path, output: Path, images: Path, prompts: tuple[Path, ...]) -> None:
    """Quantise the graphs of an image bundle to int8, calibrated on images under prompts and under none.

    OUTPUT is the bundle to write. Prompts stay valid for it; they, heads and folding stay in full precision. What was
    written is compared with BUNDLE; if it is too far from it, nothing is left behind.
    """
    log_to_stderr(logging.INFO)
    written = quantize_bundle(bundle, output, images, prompts)
    for engine, graph in written.manifest.graphs.items():
        size_bytes = sum((written.folder / name).stat().st_size for name in graph.sha256)
        worst = written.manifest.parity[engine]["fp32"]
        click.echo(f"{engine}: {size_bytes:,} bytes, features {worst:.1e} from fp32 at most, relative to the largest")
    click.echo(f"wrote {output}, which takes the prompts of {bundle}")
