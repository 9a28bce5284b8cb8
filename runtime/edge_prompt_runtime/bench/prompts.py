"""The prompts that are measured: those that were given, and made-up ones of several lengths for each kind."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_prompt.base.errors import InputError
from edge_prompt.formats.bundle import Bundle
from edge_prompt.formats.manifest import Manifest
from edge_prompt.formats.prompt import write_prompt
from edge_prompt_runtime.bench.plan import Plan
from edge_prompt_runtime.runtime import Runtime


@dataclass(frozen=True)
class Measured:
    """A prompt that is measured.

    Attributes:
        name: The task that it is loaded as, and what tables call it.
        path: Its file.
        kind: Its kind, if it is a made-up one; else as it was asked for.
        length: Virtual tokens of a made-up one; 0 for those that were given, and where its kind has none.
    """

    name: str
    path: Path
    kind: str | None
    length: int = 0


def given_prompts(plan: Plan) -> list[Measured]:
    """Those that were given.

    Raises:
        InputError: Two have one name.
    """
    prompts = [Measured(f"prompt {path.stem}", path, plan.kind) for path in plan.prompts]
    names = [prompt.name for prompt in prompts]
    if len(set(names)) < len(names):
        twice = next(prompt.path for prompt in prompts if names.count(prompt.name) > 1)
        raise InputError(found=f"two prompts named {twice.stem}", wanted="different names", remedy="rename one")
    return prompts


def made_prompts(bundle: Bundle, plan: Plan, folder: Path) -> list[Measured]:
    """Write made-up prompts of each kind that the bundle takes, of each length, into `folder`."""
    made = []
    for kind, shape in bundle.manifest.kinds.items():
        for length in plan.lengths if None in shape else (0,):
            name = f"{kind} of {length}" if length else kind
            path = folder / f"{name.replace(' ', '_')}.npy"
            write_made(path, bundle.manifest, kind, length)
            made.append(Measured(name, path, kind, length))
    return made


def write_made(path: Path, manifest: Manifest, kind: str, length: int) -> None:
    """A prompt of small numbers at random, with its card."""
    shape = [length if axis is None else axis for axis in manifest.kinds[kind]]
    array = 0.05 * np.random.default_rng(length).standard_normal(shape, dtype=np.float32)
    write_prompt(path, array, kind, manifest.backbone.fingerprint)


def load(runtimes: list[Runtime], prompts: list[Measured]) -> None:
    """Load prompts as tasks of every runtime.

    Raises:
        EdgePromptError: One is malformed or not for this bundle.
    """
    for runtime in runtimes:
        for prompt in prompts:
            runtime.load(prompt.name, prompt.path, prompt.kind)


def load_fitting(runtimes: list[Runtime], prompts: list[Measured], needed: int) -> list[Measured]:
    """Load those made-up prompts that leave room for as many tokens as a request needs, and say which they are.

    Args:
        runtimes: The runtimes.
        prompts: Made-up prompts.
        needed: Tokens of a request and of what is generated; 0 where there are no tokens.
    """
    fitting = []
    for prompt in prompts:
        if prompt.length and needed and needed + prompt.length > _positions(runtimes[0]):
            continue
        load(runtimes, [prompt])
        fitting.append(prompt)
    return fitting


def _positions(runtime: Runtime) -> float:
    found = getattr(runtime.bundle.manifest.preprocessing, "max_positions", None)
    return float("inf") if found is None else found
