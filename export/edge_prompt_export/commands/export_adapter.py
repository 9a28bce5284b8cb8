"""`edge-prompt export-adapter TASK.npy --bundle BUNDLE --output FOLDER`."""

from __future__ import annotations

from pathlib import Path

import click

from edge_prompt_export.adapters.exporter import export_adapter

_PATH = click.Path(path_type=Path)


@click.command("export-adapter")
@click.argument("prompt", type=_PATH)
@click.option("--bundle", type=_PATH, required=True, help="The bundle of the network that PROMPT was tuned on.")
@click.option("--output", "-o", type=_PATH, required=True, help="The folder to write.")
@click.option("--base", help="The name or path of the network that the adapter names.  [default: the bundle's]")
def command(prompt: Path, bundle: Path, output: Path, base: str | None) -> None:
    """Write a soft prompt or a prefix as an adapter that PEFT opens: peft.PeftModel.from_pretrained(network, folder).

    Of a prompt with a head, the network is to be loaded for text classification with as many labels.
    """
    click.echo(f"wrote {export_adapter(prompt, bundle=bundle, output=output, base=base)}")
