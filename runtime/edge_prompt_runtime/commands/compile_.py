"""`edge-prompt compile BUNDLE TASK.npy`."""

from __future__ import annotations

from pathlib import Path

import click

from edge_prompt.base.errors import InputError
from edge_prompt.formats.bundle import read_bundle
from edge_prompt_runtime.engines.base import ENGINES, open_engine
from edge_prompt_runtime.language.compiled_files import write_compiled
from edge_prompt_runtime.language.model import LanguageModel
from edge_prompt_runtime.tasks.deep_prompts import Folder
from edge_prompt_runtime.tasks.task import base_task, load_task


@click.command("compile")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("prompt", type=click.Path(path_type=Path))
@click.option("--engine", type=click.Choice(list(ENGINES)), help="[default: the first that is installed]")
def command(bundle: Path, prompt: Path, engine: str | None) -> None:
    """Compile a soft prompt of a causal language model to its keys and values, ahead of time.

    A device does the same when it loads a soft prompt. The compiled form lies beside the prompt, belongs to one engine,
    and is refused once graph, weights or prompt have changed.
    """
    opened = read_bundle(bundle)
    if not opened.manifest.cache:
        raise InputError(
            found=f"{bundle} for {opened.manifest.backbone.task}",
            wanted="a causal language model",
            remedy="use the prompt as it is: nothing of it can be compiled",
        )
    name, graph = open_engine(opened, engine)
    fold = Folder(opened, name)
    task = load_task(prompt.stem, prompt, None, opened, base_task(opened.manifest), fold)
    if not task.length("soft_prompt"):
        raise InputError(
            found=f"{prompt}: a {task.kind}",
            wanted="a soft prompt",
            remedy="use it as it is: it is keys and values already",
        )
    past = LanguageModel(opened.manifest, graph, 0).compiled.compile(task)
    path = write_compiled(prompt, task.sha256, opened, name, past)
    length = task.length("soft_prompt")
    click.echo(f"wrote {path}: {length} virtual tokens for {name}, {path.stat().st_size:,} bytes")
