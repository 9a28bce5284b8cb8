"""Graphs of one network with and without prompt inputs, exported once and kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import onnx_ir
import openvino
from torch import Tensor, nn

from benchmarks.lib.artifacts import KEPT, digest_of, kept
from edge_prompt_export.backbone.conditioned_module import ConditionedModule
from edge_prompt_export.graphs.onnx.export import ONNX_FILE, onnx_model
from edge_prompt_export.graphs.openvino.export import OPENVINO_FILE, openvino_model
from edge_prompt_export.modalities.image.network import ConditionedVision
from edge_prompt_runtime.engines.base import Engine, open_file
from edge_prompt_runtime.engines.options import EngineOptions

OUTPUT = "features"

Axes = Mapping[str, Mapping[int, str]]


class Plain(nn.Module):
    """The network with no prompt inputs at all, and its authors' attention."""

    def __init__(self, conditioned: ConditionedModule) -> None:
        super().__init__()
        self.conditioned = conditioned

    def forward(self, **request: Tensor) -> Tensor:
        """The feature."""
        return self.conditioned.original_outputs(request)[OUTPUT]


class Naive(nn.Module):
    """VPT-deep as published: the prompt joined to the sequence anew in every layer."""

    def __init__(self, conditioned: ConditionedVision) -> None:
        super().__init__()
        self.conditioned = conditioned

    def forward(self, pixel_values: Tensor, deep_prompt: Tensor) -> Tensor:
        """The feature."""
        return self.conditioned.naive_deep(pixel_values, deep_prompt)[0]


class Ours(nn.Module):
    """Our graph, the feature alone."""

    def __init__(self, conditioned: ConditionedModule) -> None:
        super().__init__()
        self.conditioned = conditioned

    def forward(self, **inputs: Tensor) -> Tensor:
        """The feature."""
        features: Tensor = self.conditioned(**inputs)[0]
        return features


class Traced(NamedTuple):
    """What an exporter is given: a module, its inputs by name, and which of their axes vary."""

    module: nn.Module
    inputs: Mapping[str, Tensor]
    axes: Axes


def traced_of(conditioned: ConditionedModule) -> dict[str, Traced]:
    """Our graph, the one without prompt inputs, and for images the one that takes a deep prompt as published."""
    inputs, axes = conditioned.trace_inputs(), conditioned.dynamic_axes()
    request = {name: inputs[name] for name in request_names(conditioned)}
    if "attention_mask" in request:  # ours has room for virtual tokens
        request["attention_mask"] = request["attention_mask"][:, -request["input_ids"].shape[1] :]
    plain_axes = {name: axes[name] for name in request}
    if "attention_mask" in request:
        plain_axes["attention_mask"] = axes["input_ids"]
    found = {"ours": Traced(Ours(conditioned), inputs, axes), "plain": Traced(Plain(conditioned), request, plain_axes)}
    if isinstance(conditioned, ConditionedVision):
        deep = {**request, "deep_prompt": conditioned.example_prompt("deep", 5, 0)}
        found["naive"] = Traced(Naive(conditioned), deep, plain_axes | {"deep_prompt": {1: "num_virtual_tokens"}})
    return found


def request_names(conditioned: ConditionedModule) -> tuple[str, ...]:
    """The inputs that are not prompts."""
    return tuple(name for name in conditioned.input_names if name not in conditioned.empty_prompts())


def write_onnx(traced: Traced, folder: Path) -> None:
    """Write an ONNX file."""
    onnx_ir.save(onnx_model(*traced, (OUTPUT,)), folder / ONNX_FILE)


def write_openvino(traced: Traced, folder: Path) -> None:
    """Write an OpenVINO IR."""
    openvino.save_model(openvino_model(*traced, (OUTPUT,), {}), folder / OPENVINO_FILE, compress_to_fp16=False)


WRITERS: Mapping[str, tuple[Callable[[Traced, Path], None], str]] = {
    "onnxruntime": (write_onnx, ONNX_FILE),
    "openvino": (write_openvino, OPENVINO_FILE),
}
"""By engine: what writes a graph, and the file that is opened."""


def opened_graphs(
    name: str, conditioned: ConditionedModule, engine: str, threads: int, place: Path = KEPT
) -> dict[str, Engine]:
    """Every graph of the network `name`, opened; exported only where that was not done by the same code."""
    write, file = WRITERS[engine]

    def make(folder: Path) -> None:
        for graph, traced in traced_of(conditioned).items():
            (folder / graph).mkdir()
            write(traced, folder / graph)

    made = kept(f"{name}-{engine}", made_by(conditioned), make, place)
    return {path.name: open_file(engine, path / file, None, EngineOptions(threads)) for path in sorted(made.iterdir())}


def made_by(conditioned: ConditionedModule) -> str:
    """A digest of all that decides what the graphs are; of the network that is its configuration and its weights."""
    weights = (parameter.detach().numpy().tobytes() for parameter in conditioned.parameters())
    return digest_of(Path(__file__), conditioned.task, getattr(conditioned.model, "config", None), *weights)
