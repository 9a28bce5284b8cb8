"""`edge-prompt import ADAPTER --bundle BUNDLE --output TASK.npy`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from edge_prompt.base.progress import log_to_stderr
from edge_prompt.formats.card import TEMPLATE_FIELD
from edge_prompt_export.adapters.base import RENAMED_OPTION
from edge_prompt_export.adapters.importer import import_adapter

_PATH = click.Path(path_type=Path)


@click.command("import")
@click.argument("adapter")
@click.option("--bundle", type=_PATH, required=True, help="The bundle of the network that ADAPTER was trained on.")
@click.option("--output", "-o", type=_PATH, required=True, help="The .npy file to write.")
@click.option(
    "--task-index",
    type=click.IntRange(0),
    help="Which task of a multitask adapter.  [default: all, as NAME-0.npy, NAME-1.npy, …]",
)
@click.option(
    "--label",
    "labels",
    multiple=True,
    help="A class name; again for each, in the order of the head.  [default: the network's own]",
)
@click.option(
    "--template", default=TEMPLATE_FIELD, show_default=True, help="The text that was around every text in training."
)
@click.option("--max-tokens", type=click.IntRange(3), help="Tokens of a text that are read.  [default: all that fit]")
@click.option(
    RENAMED_OPTION, is_flag=True, help="The adapter's base is the bundle's network under another name or revision."
)
@click.option("--revision", help="Of the adapter: branch, tag or commit on the hub.")
@click.option("--cache-dir", type=click.Path(file_okay=False), help="Where downloads are kept.")
def command(adapter: str, bundle: Path, output: Path, **settings: Any) -> None:
    """Take a prompt that PEFT trained for use with a bundle.

    ADAPTER is the folder that PEFT's save_pretrained wrote, or its name on the hub: of PROMPT_TUNING, P_TUNING,
    MULTITASK_PROMPT_TUNING, PREFIX_TUNING or CARTRIDGE. The network itself is not needed, nor is torch, but for the
    old adapter_model.bin.
    """
    log_to_stderr(logging.WARNING)
    for path in import_adapter(adapter, bundle=bundle, output=output, **settings):
        click.echo(f"wrote {path}: {path.stat().st_size:,} bytes")
