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
    help="Graph format to write; repeat the option for several.",
)
@click.option(
    "--weights",
    type=click.Choice(WEIGHTS),
    default="fp32",
    show_default=True,
    help="Storage format of the weights; prompts and heads stay in full precision.",
)
@click.option(
    "--calibrate",
    type=click.Path(path_type=Path),
    help="Text file to calibrate int4 weights on, which reduces their quality loss; takes minutes. Its texts should "
    "resemble those that the bundle will read.",
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
    """Export a frozen backbone as a bundle that takes prompts as inputs.

    MODEL is a local folder or a model name on the hub. BUNDLE is the folder to write. The command runs the exported
    graphs in the device runtime and compares them with PyTorch. If they differ, it deletes the bundle and fails.
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
        click.echo(f"{engine}: differs from torch by at most {worst:.1e}, relative to the largest output")
        if weights != "fp32":
            worst = max(written.manifest.parity[engine]["reference"].values())
            click.echo(f"{engine}: differs from torch by at most {worst:.1e} with weights in {weights}")
    click.echo(f"wrote {bundle}, which takes {' and '.join(written.manifest.kinds)} prompts")
