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
    """The network without prompt inputs, with its authors' attention."""

    def __init__(self, conditioned: ConditionedModule) -> None:
        super().__init__()
        self.conditioned = conditioned

    def forward(self, **request: Tensor) -> Tensor:
        """Return the feature."""
        return self.conditioned.original_outputs(request)[OUTPUT]


class Naive(nn.Module):
    """VPT-deep as published: the prompt is joined to the sequence in every layer."""

    def __init__(self, conditioned: ConditionedVision) -> None:
        super().__init__()
        self.conditioned = conditioned

    def forward(self, pixel_values: Tensor, deep_prompt: Tensor) -> Tensor:
        """Return the feature."""
        return self.conditioned.naive_deep(pixel_values, deep_prompt)[0]


class Ours(nn.Module):
    """Our graph, with the feature as its only output."""

    def __init__(self, conditioned: ConditionedModule) -> None:
        super().__init__()
        self.conditioned = conditioned

    def forward(self, **inputs: Tensor) -> Tensor:
        """Return the feature."""
        features: Tensor = self.conditioned(**inputs)[0]
        return features


class Traced(NamedTuple):
    """The inputs of an exporter: a module, its inputs by name, and their dynamic axes."""

    module: nn.Module
    inputs: Mapping[str, Tensor]
    axes: Axes


def traced_of(conditioned: ConditionedModule) -> dict[str, Traced]:
    """Return our graph, the one without prompt inputs, and for images the one that takes a deep prompt as published."""
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
    """Return the inputs that are not prompts."""
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
"""By engine: the function that writes a graph, and the file to open."""


def opened_graphs(
    name: str, conditioned: ConditionedModule, engine: str, threads: int, place: Path = KEPT
) -> dict[str, Engine]:
    """Open every graph of the network `name`; graphs are exported only if the same code has not done so before."""
    write, file = WRITERS[engine]

    def make(folder: Path) -> None:
        for graph, traced in traced_of(conditioned).items():
            (folder / graph).mkdir()
            write(traced, folder / graph)

    made = kept(f"{name}-{engine}", made_by(conditioned), make, place)
    return {path.name: open_file(engine, path / file, None, EngineOptions(threads)) for path in sorted(made.iterdir())}


def made_by(conditioned: ConditionedModule) -> str:
    """Return a digest of everything that determines the graphs, including the network's configuration and weights."""
    weights = (parameter.detach().numpy().tobytes() for parameter in conditioned.parameters())
    return digest_of(Path(__file__), conditioned.task, getattr(conditioned.model, "config", None), *weights)
