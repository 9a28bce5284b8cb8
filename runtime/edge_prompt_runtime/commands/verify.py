"""`edge-prompt verify BUNDLE [--prompt TASK.npy]…`."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import click

from edge_prompt.base.errors import InputError, MissingExtraError
from edge_prompt.formats.bundle import Bundle
from edge_prompt.formats.manifest import MANIFEST_NAME
from edge_prompt.formats.preprocessing import modality_of
from edge_prompt_runtime.commands.items import BATCH_SIZE, ITEMS, labelled
from edge_prompt_runtime.commands.trust_options import trust_options
from edge_prompt_runtime.engines.base import ENGINES
from edge_prompt_runtime.reference import bounds_of, check_reference
from edge_prompt_runtime.runtime import Runtime
from edge_prompt_runtime.signing.trust import Trust, read_trusted_bundle


@click.command("verify")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--prompt", "prompts", type=click.Path(path_type=Path), multiple=True, help="Prompt to check; may be repeated."
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Labelled .jsonl file to measure the prompt's accuracy on, one "
    '{"text": "…", "label": "…"} or {"image": "path", "label": "…"} per line.',
)
@click.option("--engine", type=click.Choice(list(ENGINES)), help="Engine to check.  [default: all installed]")
@trust_options
def command(
    bundle: Path, prompts: tuple[Path, ...], data: Path | None, engine: str | None, *, trust: Trust | None
) -> None:
    """Check that a bundle is intact and that prompts fit it.

    The command compares every file with its digest and compares the outputs of each engine with the reference outputs
    that torch computed at export. It loads and checks each prompt. With --data, it also reports the accuracy of the
    prompt, which shows what quantised weights cost.

    With one of the trust options, it rejects a bundle or prompts without a valid signature by that signer.
    """
    if data is not None and len(prompts) != 1:
        raise click.UsageError("--data requires exactly one --prompt")
    opened = read_trusted_bundle(bundle, trust)
    opened.require_unaltered({name: sha256 for name, sha256 in opened.sha256.items() if name != MANIFEST_NAME})
    click.echo(f"{bundle}: all files match their digests{_signed(trust)}")
    for name in _engines(opened, engine):
        figures, bounds = check_reference(opened, name), bounds_of(opened, name)
        differences = ", ".join(f"{kind} {value:.1e} (at most {bounds[kind]:.2g})" for kind, value in figures.items())
        click.echo(f"{name}: difference from torch at export: {differences}")
        if prompts:
            runtime = Runtime(bundle, name, trust=trust)
            _check_prompts(runtime, prompts, trust)
            if data is not None:
                click.echo(f"{name}: {_right(runtime, prompts[0], data)}")


def _engines(bundle: Bundle, engine: str | None) -> list[str]:
    if engine is not None:
        return [engine]
    installed = [name for name in bundle.manifest.graphs if name in ENGINES and find_spec(name)]
    if not installed:
        raise MissingExtraError(
            found=f"no engine that runs {bundle.folder} is installed",
            wanted=f"one of {', '.join(bundle.manifest.graphs)}",
            remedy=f"run: pip install 'edge-prompt[{next(iter(bundle.manifest.graphs))}]'",
        )
    return installed


def _signed(trust: Trust | None) -> str:
    return "" if trust is None else f", signed by {trust.described}"


def _check_prompts(runtime: Runtime, prompts: tuple[Path, ...], trust: Trust | None) -> None:
    for path in prompts:
        runtime.load(str(path), path)
        task = runtime.task(str(path))
        length = f", {task.virtual_tokens} virtual tokens" if task.virtual_tokens else ""
        labels = f", {len(task.labels)} labels" if task.labels else ""
        click.echo(f"{path}: {task.kind}{length}{labels}, fits this bundle{_signed(trust)}")


def _right(runtime: Runtime, prompt: Path, data: Path) -> str:
    """Describe how many rows of `data` the prompt classifies correctly."""
    modality = modality_of(runtime.bundle.manifest.preprocessing)
    if modality not in ITEMS or not runtime.task(str(prompt)).labels:
        raise InputError(
            found=f"--data with {prompt}, on a backbone whose modality is {modality}",
            wanted="a prompt with labels on a backbone for texts or images",
            remedy="omit --data",
        )
    rows = labelled(data, ITEMS[modality], runtime.task(str(prompt)).labels)
    right = 0
    for start in range(0, len(rows), BATCH_SIZE):
        items, labels = zip(*rows[start : start + BATCH_SIZE], strict=True)
        answers = runtime.classify(list(items), str(prompt))
        right += sum(answer.label == label for answer, label in zip(answers, labels, strict=True))
    return f"{right} of {len(rows)} rows of {data} correct, {100 * right / len(rows):.1f} %"
