"""`edge-prompt export MODEL BUNDLE`."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from edge_prompt.base.progress import log_to_stderr
from edge_prompt_export.backbone.backbone import LoadOptions
from edge_prompt_export.commands.options import loading_options
from edge_prompt_export.compression.precisions import WEIGHTS
from edge_prompt_export.export import FORMATS, export_backbone


@click.command("export")
@click.argument("model")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--format",
    "formats",
    type=click.Choice(list(FORMATS)),
    multiple=True,
    default=list(FORMATS),
    show_default=True,
    help="Graph to write; may be given again.",
)
@click.option(
    "--weights",
    type=click.Choice(WEIGHTS),
    default="fp32",
    show_default=True,
    help="What weights are stored in; prompts and heads stay in full precision.",
)
@click.option(
    "--calibrate",
    type=click.Path(path_type=Path),
    help="A text file like the texts to come, on which weights in int4 lose less; takes minutes.",
)
@loading_options
def command(
    model: str,
    bundle: Path,
    formats: tuple[str, ...],
    weights: str,
    calibrate: Path | None,
    task: str | None,
    pooling: str | None,
    options: LoadOptions,
) -> None:
    """Export a frozen backbone into a bundle, with prompts as inputs.

    MODEL is a local folder or a name on the hub; BUNDLE is the folder to write. What was written is run by the device's
    own runtime and compared with torch; if it differs, nothing is left behind.
    """
    log_to_stderr(logging.INFO)
    written = export_backbone(
        model,
        bundle,
        formats=formats,
        weights=weights,
        calibrate=calibrate,
        task=task,
        pooling=pooling,
        revision=options.revision,
        trust_remote_code=options.trust_remote_code,
        cache_dir=options.cache_dir,
    )
    for engine in written.manifest.graphs:
        worst = written.manifest.parity[engine]["torch"]
        click.echo(f"{engine}: {worst:.1e} from torch at most, relative to the largest output")
        if weights != "fp32":
            worst = max(written.manifest.parity[engine]["reference"].values())
            click.echo(f"{engine}: {worst:.1e} with weights in {weights}")
    click.echo(f"wrote {bundle}, which takes {' and '.join(written.manifest.kinds)} prompts")
