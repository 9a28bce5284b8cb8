"""`edge-prompt fold BUNDLE DEEP.npy --output PREFIX.npy`."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from edge_prompt.base.errors import InputError, PromptKindError
from edge_prompt.formats.bundle import Bundle, read_bundle
from edge_prompt.formats.fingerprint import require_fingerprint
from edge_prompt.formats.kinds import fits, kind_of
from edge_prompt.formats.prompt import PROMPT_SUFFIX, Prompt, read_prompt, write_prompt
from edge_prompt.untrusted.npy import FloatArray
from edge_prompt_runtime.engines.base import ENGINES, first_installed
from edge_prompt_runtime.tasks.deep_prompts import DeepPromptFolder


@click.command("fold")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("prompt", type=click.Path(path_type=Path))
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), required=True, help="The .npy file to write the prefix to."
)
@click.option("--engine", type=click.Choice(list(ENGINES)), help="Engine to use.  [default: the first one installed]")
def command(bundle: Path, prompt: Path, output: Path, engine: str | None) -> None:
    """Fold a deep prompt into the equivalent prefix ahead of time.

    A device otherwise does this whenever it loads the deep prompt. The card and the head are kept.
    """
    opened, deep = read_bundle(bundle), read_prompt(prompt)
    if output.suffix != PROMPT_SUFFIX:
        raise InputError(
            found=f"the output {output}",
            wanted=f"a name that ends in {PROMPT_SUFFIX}",
            remedy="choose another name for --output",
        )
    if output.resolve() == prompt.resolve():
        raise InputError(
            found=f"the output {output} is the deep prompt itself",
            wanted="another file",
            remedy="choose another name for --output",
        )
    _require_deep(deep, opened)
    prefix = DeepPromptFolder(opened, engine or first_installed(opened))(deep.array.astype(np.float32, copy=False))
    card = deep.card
    array: FloatArray = prefix.astype(np.float16) if deep.array.dtype == np.float16 else prefix
    write_prompt(
        output,
        array,
        "prefix",
        opened.manifest.backbone.fingerprint,
        head=deep.head,
        labels=() if card is None else card.labels,
        provenance={**({} if card is None else card.provenance), "folded_from": prompt.name},
    )
    click.echo(f"wrote {output}: a prefix of {prefix.shape[3]} virtual tokens, {output.stat().st_size:,} bytes")


def _require_deep(prompt: Prompt, bundle: Bundle) -> None:
    manifest = bundle.manifest
    if prompt.card is not None:
        require_fingerprint(prompt.card.fingerprint, manifest.backbone.fingerprint, str(prompt.path))
    said = None if prompt.card is None else prompt.card.kind
    if said is None and fits(prompt.array.shape, manifest.kinds.get("deep", ())):
        said = "deep"  # the shape may also fit a pixel prompt, but only deep prompts are folded
    kind = kind_of(prompt.array.shape, said, manifest.kinds, str(prompt.path))
    if kind != "deep":
        raise PromptKindError(
            found=f"{prompt.path} is a {kind} prompt",
            wanted="a deep prompt",
            remedy="use it as it is: only deep prompts are folded",
        )
