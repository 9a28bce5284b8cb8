"""`edge-prompt import ADAPTER --bundle BUNDLE --output TASK.npy`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import click

from edge_prompt.base.progress import log_to_stderr
from edge_prompt.formats.card import TEMPLATE_FIELD
from edge_prompt.formats.problem_type import PROBLEM_TYPES
from edge_prompt_export.adapters.base import RENAMED_OPTION
from edge_prompt_export.adapters.importer import import_adapter

_PATH = click.Path(path_type=Path)


@click.command("import")
@click.argument("adapter")
@click.option("--bundle", type=_PATH, required=True, help="Bundle of the backbone that ADAPTER was trained on.")
@click.option("--output", "-o", type=_PATH, required=True, help="Prompt file (.npy) to write.")
@click.option(
    "--task-index",
    type=click.IntRange(0),
    help="Index of the task to import from a multitask adapter.  [default: all, as NAME-0.npy, NAME-1.npy, …]",
)
@click.option(
    "--label",
    "labels",
    multiple=True,
    help="Class name; repeat the option once per class, in the head's order.  [default: the backbone's class names]",
)
@click.option(
    "--problem-type",
    type=click.Choice(PROBLEM_TYPES),
    metavar="TYPE",  # the values do not fit next to the option in 80 columns
    help=f"Meaning of the classifier's logits: {', '.join(PROBLEM_TYPES)}.  [default: one logit is a sigmoid, several "
    "are a softmax]",
)
@click.option(
    "--template",
    default=TEMPLATE_FIELD,
    show_default=True,
    help="Template that the texts were put into during training.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(3),
    help="Maximum number of tokens per text; longer texts are truncated.  [default: as many as fit]",
)
@click.option(
    RENAMED_OPTION,
    is_flag=True,
    help="Accept an adapter whose base model is the bundle's backbone under another name or revision.",
)
@click.option("--revision", help="Branch, tag or commit of the adapter on the hub.")
@click.option("--cache-dir", type=click.Path(file_okay=False), help="Folder for downloads.")
def command(adapter: str, bundle: Path, output: Path, **settings: Any) -> None:
    """Convert a PEFT adapter to a prompt for a bundle.

    ADAPTER is a folder written by PEFT's save_pretrained, or the adapter's name on the hub. Its type must be
    PROMPT_TUNING, P_TUNING, MULTITASK_PROMPT_TUNING, PREFIX_TUNING or CARTRIDGE. The command does not need the
    network, and needs torch only for the old adapter_model.bin format.
    """
    log_to_stderr(logging.WARNING)
    for path in import_adapter(adapter, bundle=bundle, output=output, **settings):
        click.echo(f"wrote {path}: {path.stat().st_size:,} bytes")
