"""`edge-prompt export-adapter TASK.npy --bundle BUNDLE --output FOLDER`."""

from __future__ import annotations

from pathlib import Path

import click

from edge_prompt_export.adapters.exporter import export_adapter

_PATH = click.Path(path_type=Path)


@click.command("export-adapter")
@click.argument("prompt", type=_PATH)
@click.option("--bundle", type=_PATH, required=True, help="Bundle of the backbone that PROMPT was tuned on.")
@click.option("--output", "-o", type=_PATH, required=True, help="Folder to write.")
@click.option("--base", help="Base model to record in the adapter, as a name or path.  [default: the bundle's]")
def command(prompt: Path, bundle: Path, output: Path, base: str | None) -> None:
    """Convert a soft prompt or a prefix to a PEFT adapter.

    Load the adapter with peft.PeftModel.from_pretrained(network, folder). If the prompt has a head, first load the
    network for text classification with the same number of labels.
    """
    click.echo(f"wrote {export_adapter(prompt, bundle=bundle, output=output, base=base)}")
