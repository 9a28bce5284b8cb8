"""How far are the engines from torch, on all-MiniLM-L6-v2 over batches, sequences, prompts and mixed batches?

    python benchmarks/questions/parity.py

Prints the largest difference relative to `max(1, |reference|)` for every engine: to torch under both kinds of prompt,
with a prompt of length 0 to the network as transformers runs it, and of a row in a mixed batch to that row alone.
"""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from edge_prompt.formats.kinds import PROMPT_INPUTS
from edge_prompt.untrusted.npy import write_npy
from edge_prompt_export import export_backbone
from edge_prompt_export.backbone.conditioned_module import Tensors
from edge_prompt_export.modalities.registry import load_backbone
from edge_prompt_export.modalities.text.network import ConditionedTextEncoder
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.reference import TOLERANCE, difference
from examples.real_data import minilm

BATCHES = (1, 3, 8)
SEQUENCES = (2, 17, 128)
VIRTUAL_TOKENS = (0, 1, 16, 64)


def tokens_of(module: ConditionedTextEncoder, batch: int, sequence: int, seed: int) -> Tensors:
    """Random tokens; rows differ in their number of real tokens."""
    inputs = module.example_inputs(batch, sequence, virtual_tokens=0, prefix_length=0, seed=seed)
    return {name: inputs[name] for name in module.input_names if name not in PROMPT_INPUTS.values()}


def numbers(tensors: Tensors) -> dict[str, np.ndarray]:
    """Convert tensors to what the runtime takes and returns."""
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def against_torch(runtime: Runtime, module: ConditionedTextEncoder, kind: str, folder: Path) -> dict[str, float]:
    """Largest difference to torch by number of virtual tokens, and at length 0 to the unmodified network."""
    worst: dict[str, float] = {}
    for batch, sequence, length in itertools.product(BATCHES, SEQUENCES, VIRTUAL_TOKENS):
        seed = batch + sequence + length
        tokens = tokens_of(module, batch, sequence, seed)
        task, prompt = None, None
        if length:
            prompt = module.example_prompt(kind, length, seed)
            write_npy(folder / "prompt.npy", prompt.numpy())
            task = "prompt"
            runtime.load(task, folder / "prompt.npy", kind)
        found = module.without_padding(runtime.infer(numbers(tokens), task), tokens)
        reference = module.without_padding(numbers(module.prompted_outputs(tokens, kind, prompt)), tokens)
        key = f"{kind} {length}"
        worst[key] = max(worst.get(key, 0), difference(found, reference))
        if length == 0:
            untouched = module.without_padding(numbers(module.original_outputs(tokens)), tokens)
            worst["unmodified network"] = max(worst.get("unmodified network", 0), difference(found, untouched))
    return worst


def mixed_against_alone(runtime: Runtime, module: ConditionedTextEncoder, folder: Path) -> float:
    """Largest difference of a row in a batch of eight tasks to that row alone."""
    tasks: list[str | None] = [None]
    for kind, length in itertools.product(module.kinds, (1, 16, 64)):
        path = folder / f"{kind}_{length}.npy"
        write_npy(path, module.example_prompt(kind, length, seed=length).numpy())
        runtime.load(path.stem, path, kind)
        tasks.append(path.stem)
    tasks.append(None)
    tokens = tokens_of(module, len(tasks), 40, seed=0)
    together = runtime.infer(numbers(tokens), tasks)["features"]
    worst = 0.0
    for row, task in enumerate(tasks):
        alone = runtime.infer(numbers(module.single_row(tokens, row)), task)["features"]
        worst = max(worst, difference({"features": together[row : row + 1]}, {"features": alone}))
    return worst


def main() -> None:
    """Print a table of differences."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = export_backbone(minilm(), folder / "bundle")
        module = load_backbone(str(minilm())).module
        assert isinstance(module, ConditionedTextEncoder)
        columns = {}
        for engine in bundle.manifest.graphs:
            runtime = Runtime(folder / "bundle", engine)
            figures: dict[str, float] = {}
            for kind in module.kinds:
                figures |= against_torch(runtime, module, kind, folder)
            columns[engine] = figures | {"mixed batch of 8": mixed_against_alone(runtime, module, folder)}
    table = Table("compared", *columns, title=f"largest relative difference (tolerance {TOLERANCE:.0e})")
    for row in next(iter(columns.values())):
        table.add_row(row, *(f"{figures[row]:.1e}" for figures in columns.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
