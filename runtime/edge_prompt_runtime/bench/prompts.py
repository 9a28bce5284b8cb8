"""The prompts to measure: given ones, and random ones of several lengths for each kind."""

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
class BenchPrompt:
    """A prompt to measure.

    Attributes:
        name: Its task name, which tables also show.
        path: Its file.
        kind: The kind of a random prompt, or the requested kind of a given one.
        length: The number of virtual tokens of a random prompt; 0 for given prompts and kinds without virtual tokens.
    """

    name: str
    path: Path
    kind: str | None
    length: int = 0


def given_prompts(plan: Plan) -> list[BenchPrompt]:
    """Return the given prompts.

    Raises:
        InputError: Two prompts have the same name.
    """
    prompts = [BenchPrompt(f"prompt {path.stem}", path, plan.kind) for path in plan.prompts]
    names = [prompt.name for prompt in prompts]
    if len(set(names)) < len(names):
        twice = next(prompt.path for prompt in prompts if names.count(prompt.name) > 1)
        raise InputError(found=f"two prompts named {twice.stem}", wanted="distinct names", remedy="rename one of them")
    return prompts


def random_prompts(bundle: Bundle, plan: Plan, folder: Path) -> list[BenchPrompt]:
    """Write random prompts of each supported kind and each length to `folder`."""
    made = []
    for kind, shape in bundle.manifest.kinds.items():
        for length in plan.lengths if None in shape else (0,):
            name = f"{kind} of {length}" if length else kind
            path = folder / f"{name.replace(' ', '_')}.npy"
            write_random_prompts(path, bundle.manifest, kind, length)
            made.append(BenchPrompt(name, path, kind, length))
    return made


def write_random_prompts(path: Path, manifest: Manifest, kind: str, length: int) -> None:
    """Write a prompt of small random numbers with its card."""
    shape = [length if axis is None else axis for axis in manifest.kinds[kind]]
    array = 0.05 * np.random.default_rng(length).standard_normal(shape, dtype=np.float32)
    write_prompt(path, array, kind, manifest.backbone.fingerprint)


def load(runtimes: list[Runtime], prompts: list[BenchPrompt]) -> None:
    """Load prompts as tasks of every runtime.

    Raises:
        EdgePromptError: A prompt is malformed or does not fit the bundle.
    """
    for runtime in runtimes:
        for prompt in prompts:
            runtime.load(prompt.name, prompt.path, prompt.kind)


def load_fitting(runtimes: list[Runtime], prompts: list[BenchPrompt], needed: int) -> list[BenchPrompt]:
    """Load the random prompts that leave enough positions for a request, and return them.

    Args:
        runtimes: The runtimes.
        prompts: The random prompts.
        needed: The number of request tokens and generated tokens; 0 if there are no tokens.
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
