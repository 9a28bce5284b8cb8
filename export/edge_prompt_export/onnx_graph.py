"""Writing the ONNX graph: opset 20, every size dynamic, weights in the file or beside it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx_ir
import torch
from torch.export import Dim

from edge_prompt.errors import UnsupportedArchitectureError
from edge_prompt_export.families.text_encoder import ConditionedTextEncoder
from edge_prompt_export.quiet import quiet

ONNX_FILE = "model.onnx"
ONNX_DATA_FILE = "model.onnx_data"
OPSET = 20

EXTERNAL_DATA_ABOVE_BYTES = 2**31 - 2**24
"""A protobuf file ends at 2 GiB; what is left of it is for the graph itself."""


def write_onnx(module: ConditionedTextEncoder, folder: Path, metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Write the module's graph into `folder`.

    Args:
        module: The conditioned module.
        folder: Where to.
        metadata: What made it, for the file's metadata.

    Returns:
        The names of the files written; the first is the one to open.

    Raises:
        UnsupportedArchitectureError: The exporter cannot follow the network.
    """
    inputs = module.example_inputs(batch=2, sequence=5, virtual_tokens=3, prefix_length=4)
    shapes = {name: dict.fromkeys(module.dynamic_axes()[name], Dim.DYNAMIC) for name in inputs}
    with quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                module,
                kwargs=inputs,
                dynamo=True,
                dynamic_shapes=shapes,
                opset_version=OPSET,
                input_names=list(module.input_names),
                output_names=list(module.output_names),
                verbose=False,
            )
        except (torch.onnx.OnnxExporterError, RuntimeError) as error:
            reason = " ".join(str(error.__cause__ or error).split())[:300]
            raise UnsupportedArchitectureError(
                found=f"{type(module.model).__name__} cannot be exported to ONNX ({reason})",
                wanted="a network that torch.onnx.export can follow",
                remedy="try --format openvino, or another backbone",
            ) from error
    assert program is not None  # noqa: S101 - promised by dynamo=True
    model = program.model
    _name_axes(model, module)
    _tidy(model, metadata)
    size_bytes = sum(weight.const_value.nbytes for weight in model.graph.initializers.values() if weight.const_value)
    external = size_bytes > EXTERNAL_DATA_ABOVE_BYTES
    onnx_ir.save(model, folder / ONNX_FILE, external_data=ONNX_DATA_FILE if external else None)
    return (ONNX_FILE, ONNX_DATA_FILE) if external else (ONNX_FILE,)


def _name_axes(model: onnx_ir.Model, module: ConditionedTextEncoder) -> None:
    """Give the dynamic axes of inputs and outputs names that a reader of the file understands."""
    names: dict[str, str] = {}
    for value in model.graph.inputs:
        axes = module.dynamic_axes()[str(value.name)]
        for axis, name in axes.items():
            names.setdefault(str(_shape(value)[axis]), name)
    for value in [*model.graph.inputs, *model.graph.outputs]:
        dims = [names.get(str(dim), dim) if isinstance(dim, onnx_ir.SymbolicDim) else dim for dim in _shape(value)]
        value.shape = onnx_ir.Shape(dims)


def _shape(value: onnx_ir.Value) -> onnx_ir.Shape:
    assert value.shape is not None  # noqa: S101 - the exporter gives every input and output a shape
    return value.shape


def _tidy(model: onnx_ir.Model, metadata: Mapping[str, str]) -> None:
    """Say what made the file; drop the exporter's notes on every node, which hold paths of the machine it ran on."""
    model.producer_name, model.producer_version = "edge-prompt", metadata["edge-prompt"]
    model.metadata_props.clear()
    model.metadata_props.update(metadata)
    model.graph.metadata_props.clear()
    for node in model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
    for value in [*model.graph.inputs, *model.graph.initializers.values()]:
        value.metadata_props.clear()
