"""`edge-prompt verify BUNDLE [--prompt TASK.npy]…`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import click

from edge_prompt.bundle import Bundle, read_bundle
from edge_prompt.errors import MissingExtraError
from edge_prompt_runtime.engines import ENGINES
from edge_prompt_runtime.reference import bounds_of, check_reference
from edge_prompt_runtime.runtime import Runtime


@click.command("verify")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--prompt", "prompts", type=click.Path(path_type=Path), multiple=True, help="A prompt; may be given again."
)
@click.option("--engine", type=click.Choice(list(ENGINES)), help="[default: every engine that is installed]")
def command(bundle: Path, prompts: tuple[Path, ...], engine: str | None) -> None:
    """Check that a bundle is what was exported, and that prompts are made for it.

    Every file is compared with its digest; each engine runs the reference that torch left at export; each prompt is
    read, checked and made ready.
    """
    opened = read_bundle(bundle)
    opened.require_unaltered(opened.manifest.files)
    for graph in (*opened.manifest.graphs.values(), *opened.manifest.fold_graphs.values()):
        opened.require_unaltered(graph.sha256)
    click.echo(f"{bundle}: every file is as it was exported")
    for name in _engines(opened, engine):
        figures, bounds = check_reference(opened, name), bounds_of(opened, name)
        differences = ", ".join(f"{kind} {value:.1e} (at most {bounds[kind]:.2g})" for kind, value in figures.items())
        click.echo(f"{name}: from torch at export {differences}")
        if prompts:
            _check_prompts(Runtime(bundle, name), prompts)


def _engines(bundle: Bundle, engine: str | None) -> list[str]:
    if engine is not None:
        return [engine]
    installed = [name for name in bundle.manifest.graphs if name in ENGINES and find_spec(name)]
    if not installed:
        raise MissingExtraError(
            found=f"no engine is installed that runs {bundle.folder}",
            wanted=f"one of {', '.join(bundle.manifest.graphs)}",
            remedy=f"run: pip install 'edge-prompt[{next(iter(bundle.manifest.graphs))}]'",
        )
    return installed


def _check_prompts(runtime: Runtime, prompts: tuple[Path, ...]) -> None:
    for path in prompts:
        runtime.load(str(path), path)
        task = runtime.task(str(path))
        length = f", {task.virtual_tokens} virtual tokens" if task.virtual_tokens else ""
        labels = f", {len(task.labels)} labels" if task.labels else ""
        click.echo(f"{path}: {task.kind}{length}{labels}, made for this bundle")
