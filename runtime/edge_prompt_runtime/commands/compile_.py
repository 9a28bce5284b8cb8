"""`edge-prompt compile BUNDLE TASK.npy`."""

from __future__ import annotations

from pathlib import Path

import click

from edge_prompt.base.errors import InputError
from edge_prompt.formats.bundle import read_bundle
from edge_prompt.formats.manifest import LanguageManifest
from edge_prompt_runtime.engines.base import ENGINES, open_engine
from edge_prompt_runtime.language.compile import CompiledPrompts
from edge_prompt_runtime.language.compiled_files import write_compiled
from edge_prompt_runtime.tasks.deep_prompts import DeepPromptFolder
from edge_prompt_runtime.tasks.task import base_task, load_task


@click.command("compile")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("prompt", type=click.Path(path_type=Path))
@click.option("--engine", type=click.Choice(list(ENGINES)), help="Engine to use.  [default: the first one installed]")
def command(bundle: Path, prompt: Path, engine: str | None) -> None:
    """Compile a soft prompt of a causal language model into its keys and values ahead of time.

    A device otherwise does this when it loads the prompt. The compiled file is written next to the prompt and is
    specific to one engine. It is rejected if the graph, the weights or the prompt change.
    """
    opened = read_bundle(bundle)
    if not isinstance(opened.manifest, LanguageManifest):
        raise InputError(
            found=f"{bundle} is a bundle for {opened.manifest.backbone.task}",
            wanted="a causal language model",
            remedy="use the prompt as it is: only prompts of causal language models can be compiled",
        )
    name, graph = open_engine(opened, engine)
    fold = DeepPromptFolder(opened, name)
    task = load_task(prompt.stem, prompt, None, opened, base_task(opened.manifest), fold)
    if not task.length("soft_prompt"):
        raise InputError(
            found=f"{prompt} is a {task.kind}",
            wanted="a soft prompt",
            remedy="use it as it is: it already consists of keys and values",
        )
    past = CompiledPrompts(graph, opened.manifest.kv_cache, 0).compile(task)
    path = write_compiled(prompt, task.sha256, opened, name, past)
    length = task.length("soft_prompt")
    click.echo(f"wrote {path}: {length} virtual tokens for {name}, {path.stat().st_size:,} bytes")
