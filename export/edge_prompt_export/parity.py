"""Parity checks: run a bundle in the device runtime and compare it with torch. An export that fails here is deleted."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edge_prompt.base.errors import ParityError
from edge_prompt.formats.bundle import REFERENCE_NAME, Bundle
from edge_prompt.untrusted.npy import FloatArray, write_npy, write_npz
from edge_prompt_export.backbone.conditioned_module import PARITY_VIRTUAL_TOKENS, ConditionedModule, Tensors
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.reference import BASE, TOLERANCE, difference

LEAST_EFFECT = 10 * TOLERANCE
"""Smallest relative change of the outputs that counts as an effect; a prompt with less is considered ignored."""

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class _Trial:
    """A prompt to compare with: its task name, its kind (empty for no prompt), and its array."""

    task: str | None
    kind: str
    array: FloatArray | None


def measure_parity(
    bundle: Bundle, module: ConditionedModule, requests: Sequence[Tensors], engine: str
) -> dict[str, Any]:
    """Run the bundle on `engine` at several sizes and compare it with the module in torch.

    Args:
        bundle: The bundle.
        module: The module that the bundle was exported from.
        requests: Requests of several sizes, at least two; see `LoadedBackbone.parity_requests`.
        engine: The engine to run the bundle on.

    Returns:
        The largest differences, relative to `max(1, |reference|)`: from torch (`torch`), between a prompt of length 0
        and the original network (`length_0`), and between a row in a mixed batch and that row alone (`mixed_batch`).
        Also, by kind, how much a prompt changes the outputs (`effect`).

    Raises:
        ParityError: A difference is above `TOLERANCE`, or a prompt changes nothing.
    """
    runtime = Runtime(bundle.folder, engine)
    trials = _trials(module)
    with tempfile.TemporaryDirectory() as folder:
        for trial in trials:
            if trial.task is not None and trial.array is not None:
                path = Path(folder) / f"{trial.task}.npy"
                write_npy(path, trial.array)
                runtime.load(trial.task, path, trial.kind)
    figures: dict[str, float] = {"torch": 0.0, "length_0": 0.0, "mixed_batch": 0.0}
    effect = dict.fromkeys(bundle.manifest.kinds, 0.0)
    first = module.output_names[0]
    for request in requests:
        base = module.without_padding(runtime.infer(_numpy(request)), request)
        for trial in trials:
            found = module.without_padding(runtime.infer(_numpy(request), trial.task), request)
            reference = module.without_padding(_torch_outputs(module, request, trial), request)
            figures["torch"] = max(figures["torch"], difference(found, reference))
            if trial.kind:
                effect[trial.kind] = max(effect[trial.kind], difference({first: found[first]}, base))
        untouched = module.without_padding(_numpy(module.original_outputs(request)), request)
        own = {name: array for name, array in base.items() if name in untouched}
        figures["length_0"] = max(figures["length_0"], difference(own, untouched))
    figures["mixed_batch"] = _mixed_batch(runtime, module, trials, requests[1])
    _require(figures, effect, type(module.model).__name__, engine)
    return {**{name: float(f"{value:.2e}") for name, value in figures.items()}, "effect": effect}


def write_reference(folder: Path, module: ConditionedModule, requests: Sequence[Tensors]) -> None:
    """Write torch's outputs for the second request with each kind of prompt; devices check themselves against them.

    All arrays are floats; float32 represents token ids exactly.
    """
    request = {name: tensor[:2] for name, tensor in requests[1].items()}
    output = module.output_names[0]
    arrays: dict[str, FloatArray] = {name: array.astype(np.float32) for name, array in _numpy(request).items()}
    for trial in _trials(module):
        if trial.task in {None, _task(trial.kind, PARITY_VIRTUAL_TOKENS[-1])}:
            arrays[f"{output}_{trial.kind or BASE}"] = _torch_outputs(module, request, trial)[output]
            if trial.array is not None:
                arrays[trial.kind] = trial.array
    write_npz(folder / REFERENCE_NAME, arrays)


def _trials(module: ConditionedModule) -> list[_Trial]:
    trials = [_Trial(None, "", None)]
    for length in PARITY_VIRTUAL_TOKENS:
        for kind in module.kinds:
            if None not in module.kinds[kind] and length != PARITY_VIRTUAL_TOKENS[-1]:
                continue  # prompts of this kind have a fixed size
            array = module.example_prompt(kind, length, seed=length).numpy()
            trials.append(_Trial(_task(kind, length), kind, array))
    for kind in module.kinds:  # same length as another prompt, so that these rows of a batch differ only in values
        array = module.example_prompt(kind, PARITY_VIRTUAL_TOKENS[-1], seed=99).numpy()
        trials.append(_Trial(f"{kind}_again", kind, array))
    return trials


def _task(kind: str, length: int) -> str:
    return f"{kind}_{length}"


def _numpy(tensors: Tensors) -> Arrays:
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _torch_outputs(module: ConditionedModule, request: Tensors, trial: _Trial) -> Arrays:
    array = None if trial.array is None else torch.from_numpy(trial.array)
    return _numpy(module.prompted_outputs(request, trial.kind, array))


def _mixed_batch(runtime: Runtime, module: ConditionedModule, trials: list[_Trial], request: Tensors) -> float:
    """The largest difference between a row in a batch of all trials and that row alone."""
    rows = [row % len(next(iter(request.values()))) for row in range(len(trials))]
    mixed = {name: tensor[rows] for name, tensor in request.items()}
    together = runtime.infer(_numpy(mixed), [trial.task for trial in trials])
    worst = 0.0
    for row, trial in enumerate(trials):
        one = {name: tensor[row : row + 1] for name, tensor in mixed.items()}
        alone = module.single_row(mixed, row)
        own = module.without_padding({name: output[row : row + 1] for name, output in together.items()}, one)
        worst = max(worst, difference(own, module.without_padding(runtime.infer(_numpy(alone), trial.task), alone)))
    return worst


def _require(figures: dict[str, float], effect: dict[str, float], network: str, engine: str) -> None:
    sentences = {
        "torch": "differs from torch",
        "length_0": "without a prompt differs from the original network",
        "mixed_batch": "differs between a row of a mixed batch and that row alone",
    }
    for name, value in figures.items():
        if not value <= TOLERANCE:
            raise ParityError(
                found=f"{network} on {engine} {sentences[name]} by {value:.1e}",
                wanted=f"at most {TOLERANCE:.0e}",
                remedy="this backbone cannot be exported, so choose another one",
            )
    for kind, value in effect.items():
        if not value >= LEAST_EFFECT:
            raise ParityError(
                found=f"{network} on {engine}: a {kind} prompt changes the outputs by only {value:.1e}",
                wanted=f"at least {LEAST_EFFECT:.0e}",
                remedy="this backbone ignores such prompts, so choose another one",
            )
