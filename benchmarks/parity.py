"""How far are the engines from torch? On all-MiniLM-L6-v2, over batches, sequences, prompts and mixed batches.

    python benchmarks/parity.py

Prints the largest difference relative to `max(1, |reference|)` for every engine: to torch under both kinds of prompt,
of length 0 to the network as transformers runs it, and of a row in a mixed batch to that row alone.
"""

from __future__ import annotations

import itertools
import tempfile
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from edge_prompt.arrays import write_npy
from edge_prompt.manifest import PROMPT_INPUTS
from edge_prompt_export import export_backbone
from edge_prompt_export.loading import LoadedBackbone, load_backbone
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.reference import TOLERANCE, difference
from examples.real_data import minilm

BATCHES = (1, 3, 8)
SEQUENCES = (2, 17, 128)
VIRTUAL_TOKENS = (0, 1, 16, 64)


def token_inputs(inputs: dict[str, torch.Tensor], length: int) -> dict[str, np.ndarray]:
    """The tokens among `inputs`, whose mask has `length` virtual tokens before."""
    tokens = {name: inputs[name].numpy() for name in ("input_ids", "token_type_ids") if name in inputs}
    return tokens | {"attention_mask": inputs["attention_mask"][:, length:].numpy()}


def valid(outputs: dict[str, np.ndarray], mask: np.ndarray) -> dict[str, np.ndarray]:
    """Outputs at real tokens only."""
    return {name: output[mask > 0] if output.ndim == 3 else output for name, output in outputs.items()}


def against_torch(runtime: Runtime, backbone: LoadedBackbone, kind: str, folder: Path) -> dict[str, float]:
    """The largest difference to torch by number of virtual tokens, and of length 0 to the untouched network."""
    worst: dict[str, float] = {}
    module = backbone.module
    for batch, sequence, length in itertools.product(BATCHES, SEQUENCES, VIRTUAL_TOKENS):
        soft, prefix = (length, 0) if kind == "soft" else (0, length)
        inputs = module.example_inputs(batch, sequence, soft, prefix, seed=batch + sequence + length)
        tokens = token_inputs(inputs, length)
        with torch.no_grad():
            outputs = dict(zip(module.output_names, (tensor.numpy() for tensor in module(**inputs)), strict=True))
        task = None
        if length:
            prompt = inputs[PROMPT_INPUTS[kind]].numpy()
            write_npy(folder / "prompt.npy", prompt[0] if kind == "soft" else prompt[:, :, 0])
            runtime.load("prompt", folder / "prompt.npy")
            task = "prompt"
        found = valid(runtime.infer(tokens, task), tokens["attention_mask"])
        key = f"{kind} {length}"
        worst[key] = max(worst.get(key, 0), difference(found, valid(outputs, tokens["attention_mask"])))
        if length == 0:
            untouched = module.untouched(**{name: torch.from_numpy(array) for name, array in tokens.items()})
            reference = valid({name: tensor.numpy() for name, tensor in untouched.items()}, tokens["attention_mask"])
            worst["untouched"] = max(worst.get("untouched", 0), difference(found, reference))
    return worst


def mixed_against_alone(runtime: Runtime, backbone: LoadedBackbone, folder: Path) -> float:
    """The largest difference of a row in a batch of eight tasks to that row alone."""
    tasks: list[str | None] = [None]
    for kind, length in itertools.product(PROMPT_INPUTS, (1, 16, 64)):
        prompt = backbone.module.example_inputs(1, 2, length, length, seed=length)[PROMPT_INPUTS[kind]].numpy()
        path = folder / f"{kind}_{length}.npy"
        write_npy(path, prompt[0] if kind == "soft" else prompt[:, :, 0])
        runtime.load(path.stem, path)
        tasks.append(path.stem)
    tasks.append(None)
    tokens = token_inputs(backbone.module.example_inputs(len(tasks), 40, 0, 0), 0)
    together = runtime.infer(tokens, tasks)["features"]
    worst = 0.0
    for row, task in enumerate(tasks):
        length = int(tokens["attention_mask"][row].sum())
        alone = runtime.infer({name: array[row : row + 1, :length] for name, array in tokens.items()}, task)["features"]
        worst = max(worst, difference({"features": together[row : row + 1]}, {"features": alone}))
    return worst


def main() -> None:
    """Print a table of differences."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = export_backbone(minilm(), folder / "bundle")
        backbone = load_backbone(str(minilm()))
        columns = {}
        for engine in bundle.manifest.graphs:
            runtime = Runtime(folder / "bundle", engine)
            figures: dict[str, float] = {}
            for kind in PROMPT_INPUTS:
                figures |= against_torch(runtime, backbone, kind, folder)
            columns[engine] = figures | {"mixed batch of 8": mixed_against_alone(runtime, backbone, folder)}
    table = Table("compared", *columns, title=f"largest relative difference (tolerance {TOLERANCE:.0e})")
    for row in next(iter(columns.values())):
        table.add_row(row, *(f"{figures[row]:.1e}" for figures in columns.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
