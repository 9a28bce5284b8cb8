"""Parity: the bundle, run by the very runtime that a device uses, against torch. What fails here is not exported."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_prompt.arrays import FloatArray, write_npy, write_npz
from edge_prompt.bundle import REFERENCE_NAME, Bundle
from edge_prompt.errors import ParityError
from edge_prompt.manifest import PROMPT_INPUTS
from edge_prompt_export.families.text_encoder import ConditionedTextEncoder
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.reference import TOLERANCE, difference

SIZES = ((1, 2), (3, 17), (2, 40))
"""Batch and sequence lengths at which a bundle is compared, or what it takes if that is less; rows differ in length."""

VIRTUAL_TOKENS = (1, 6)
"""Lengths of the prompts it is compared under; length 0 is the base model."""

LEAST_EFFECT = 10 * TOLERANCE
"""A prompt that changes the feature by less than this, relative to its size, is not alive."""

Inputs = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class _Trial:
    """A prompt to compare under: its task name, its kind (empty: none), and its array."""

    task: str | None
    kind: str
    array: FloatArray | None


def measure_parity(bundle: Bundle, module: ConditionedTextEncoder, engine: str) -> dict[str, Any]:
    """Run the bundle on `engine` at several sizes and compare.

    Args:
        bundle: The bundle.
        module: The module it was exported from.
        engine: The engine to run it on.

    Returns:
        The largest differences, relative to `max(1, |reference|)`: to torch (`torch`), of length 0 to the untouched
        network (`length_0`), of a row in a mixed batch to that row alone (`mixed_batch`); and how much a prompt of each
        kind changes the feature (`effect`).

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
    room = min(runtime.task(trial.task).max_tokens for trial in trials)
    for seed, (batch, sequence) in enumerate(SIZES):
        inputs = token_inputs(module, batch, min(sequence, room), seed)
        base = _valid(runtime.infer(inputs), inputs)
        for trial in trials:
            found = _valid(runtime.infer(inputs, trial.task), inputs)
            figures["torch"] = max(
                figures["torch"], difference(found, _valid(_torch_outputs(module, inputs, trial), inputs))
            )
            if trial.kind:
                effect[trial.kind] = max(effect[trial.kind], difference({"features": found["features"]}, base))
        untouched = module.untouched(**{name: torch.from_numpy(array) for name, array in inputs.items()})
        reference = {name: output.numpy() for name, output in untouched.items()}
        figures["length_0"] = max(figures["length_0"], difference(base, _valid(reference, inputs)))
    figures["mixed_batch"] = _mixed_batch(runtime, module, [trial.task for trial in trials], min(11, room))
    _require(figures, effect, type(module.model).__name__, engine)
    return {**{name: float(f"{value:.2e}") for name, value in figures.items()}, "effect": effect}


def write_reference(folder: Path, module: ConditionedTextEncoder) -> None:
    """Write what torch gives for a few tokens under each kind, so that a device can check itself without torch.

    Arrays are floats: token ids are exact in float32.
    """
    inputs = token_inputs(module, batch=2, sequence=7, seed=99)
    arrays: dict[str, FloatArray] = {name: array.astype(np.float32) for name, array in inputs.items()}
    for trial in _trials(module):
        if trial.task in {None, f"{trial.kind}_{VIRTUAL_TOKENS[-1]}"}:
            arrays[f"features_{trial.kind or 'base'}"] = _torch_outputs(module, inputs, trial)["features"]
            if trial.array is not None:
                arrays[trial.kind] = trial.array
    write_npz(folder / REFERENCE_NAME, arrays)


def token_inputs(module: ConditionedTextEncoder, batch: int, sequence: int, seed: int) -> Inputs:
    """Random tokens for the runtime: what `example_inputs` gives, without prompts."""
    inputs = module.example_inputs(batch, sequence, virtual_tokens=0, prefix_length=0, seed=seed)
    return {name: inputs[name].numpy() for name in inputs if name not in PROMPT_INPUTS.values()}


def _trials(module: ConditionedTextEncoder) -> list[_Trial]:
    trials = [_Trial(None, "", None)]
    for length in VIRTUAL_TOKENS:
        inputs = module.example_inputs(1, 2, virtual_tokens=length, prefix_length=length, seed=length)
        trials.append(_Trial(f"soft_{length}", "soft", inputs["soft_prompt"][0].numpy()))
        if "prefix" in inputs:
            trials.append(_Trial(f"prefix_{length}", "prefix", inputs["prefix"][:, :, 0].numpy()))
    return trials


def _torch_outputs(module: ConditionedTextEncoder, inputs: Inputs, trial: _Trial) -> dict[str, NDArray[Any]]:
    given: dict[str, Tensor] = {name: torch.from_numpy(array) for name, array in inputs.items()}
    empty = module.example_inputs(1, 2, virtual_tokens=0, prefix_length=0)
    prompts = {name: empty[name] for name in empty if name in PROMPT_INPUTS.values()}
    if trial.array is not None:
        array = torch.from_numpy(trial.array)
        prompts |= {"soft_prompt": array[None]} if trial.kind == "soft" else {"prefix": array[:, :, None]}
    length = prompts["soft_prompt"].shape[1] + (prompts["prefix"].shape[4] if "prefix" in prompts else 0)
    mask = given["attention_mask"]
    given["attention_mask"] = torch.cat([mask.new_ones(len(mask), length), mask], 1)
    with torch.no_grad():
        outputs = module(**given, **prompts)
    return {name: output.numpy() for name, output in zip(module.output_names, outputs, strict=True)}


def _valid(outputs: dict[str, NDArray[Any]], inputs: Inputs) -> dict[str, NDArray[Any]]:
    """The outputs at real tokens only: what stands at padding is nobody's."""
    mask = inputs["attention_mask"] > 0
    return {name: output[mask] if output.ndim == 3 else output for name, output in outputs.items()}


def _mixed_batch(runtime: Runtime, module: ConditionedTextEncoder, tasks: list[str | None], sequence: int) -> float:
    inputs = token_inputs(module, len(tasks), sequence, seed=7)
    together = runtime.infer(inputs, tasks)
    worst = 0.0
    for row, task in enumerate(tasks):
        length = int(inputs["attention_mask"][row].sum())
        alone = runtime.infer({name: array[row : row + 1, :length] for name, array in inputs.items()}, task)
        own = {
            n: output[row : row + 1, :length] if output.ndim == 3 else output[row : row + 1]
            for n, output in together.items()
        }
        worst = max(worst, difference(own, alone))
    return worst


def _require(figures: dict[str, float], effect: dict[str, float], network: str, engine: str) -> None:
    sentences = {
        "torch": "differs from torch",
        "length_0": "without a prompt differs from the untouched network",
        "mixed_batch": "gives a row of a mixed batch other numbers than that row alone",
    }
    for name, value in figures.items():
        if not value <= TOLERANCE:
            raise ParityError(
                found=f"{network} on {engine} {sentences[name]} by {value:.1e}",
                wanted=f"at most {TOLERANCE:.0e}",
                remedy="this backbone cannot be exported; choose another one",
            )
    for kind, value in effect.items():
        if not value >= LEAST_EFFECT:
            raise ParityError(
                found=f"{network} on {engine}: a {kind} prompt changes the feature by only {value:.1e}",
                wanted=f"at least {LEAST_EFFECT:.0e}",
                remedy="this backbone ignores such prompts; choose another one",
            )
