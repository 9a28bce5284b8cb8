"""Write ONNX graphs: opset 20, dynamic sizes, weights inside the file or in an external data file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx_ir
import torch
from torch import Tensor
from torch.export import Dim

from edge_prompt.base.errors import UnsupportedArchitectureError
from edge_prompt.formats.kinds import FOLD_OUTPUTS
from edge_prompt_export.backbone.conditioned_module import ConditionedModule, name_of
from edge_prompt_export.base.library_output import suppress_library_output
from edge_prompt_export.graphs.export_args import Positional
from edge_prompt_export.graphs.fold import FoldModule, GraphFiles
from edge_prompt_export.graphs.onnx.passes.base import run_passes, shape_of
from edge_prompt_export.graphs.onnx.pipeline import encoder_passes

ONNX_FILE = "model.onnx"
ONNX_DATA_FILE = "model.onnx_data"
ONNX_FOLD_FILE = "fold.onnx"
OPSET = 20

EXTERNAL_DATA_ABOVE_BYTES = 2**31 - 2**24
"""Size of the weights above which they go into an external file: the limit of protobuf, 2 GiB, minus a reserve for the
graph itself."""


SMALLEST_APART_BYTES = 1024
"""Tensors smaller than this stay in the graph file."""

_ALIGNMENT_BYTES = 4096
"""Alignment to memory pages, so that an engine can map the weights."""


def write_onnx(module: ConditionedModule, folder: Path, metadata: Mapping[str, str]) -> GraphFiles:
    """Write the module's graph into `folder`, and its folding graph if it takes deep prompts.

    Weights are stored inside the graph file, or in an external file if they are too large or shared by two graphs.

    Args:
        module: The conditioned module.
        folder: The folder to write to.
        metadata: Provenance for the file's metadata.

    Returns:
        The files written.

    Raises:
        UnsupportedArchitectureError: The exporter does not support the network.
    """
    model = onnx_model(module, module.trace_inputs(), module.dynamic_axes(), module.output_names)
    run_passes(model, encoder_passes(metadata))
    size_bytes = sum(weight.const_value.nbytes for weight in model.graph.initializers.values() if weight.const_value)
    external = size_bytes > EXTERNAL_DATA_ABOVE_BYTES or "deep" in module.kinds
    onnx_ir.save(model, folder / ONNX_FILE, external_data=ONNX_DATA_FILE if external else None)
    files = (ONNX_FILE, ONNX_DATA_FILE) if external else (ONNX_FILE,)
    if "deep" not in module.kinds:
        return GraphFiles(files)
    folding = FoldModule(module)
    fold = onnx_model(folding, folding.trace_inputs(), folding.dynamic_axes(), FOLD_OUTPUTS)
    run_passes(fold, encoder_passes(metadata))
    share_weights(fold, onnx_ir.load(folder / ONNX_FILE), folder)
    onnx_ir.save(fold, folder / ONNX_FOLD_FILE)
    return GraphFiles(files, fold=(ONNX_FOLD_FILE, ONNX_DATA_FILE))


def onnx_model(
    module: torch.nn.Module,
    inputs: Mapping[str, Tensor],
    dynamic_axes: Mapping[str, Mapping[int, str]],
    output_names: Sequence[str],
) -> onnx_ir.Model:
    """Convert the module to an ONNX model with readable names for its dynamic axes."""
    shapes = tuple(dict.fromkeys(dynamic_axes[name], Dim.DYNAMIC) for name in inputs)
    with suppress_library_output(), torch.no_grad():
        try:
            program = torch.onnx.export(
                Positional(module, tuple(inputs)),
                tuple(inputs.values()),
                dynamo=True,
                dynamic_shapes=(shapes,),  # for the single argument *inputs
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=list(output_names),
                verbose=False,
            )
        except (torch.onnx.OnnxExporterError, RuntimeError) as error:
            reason = " ".join(str(error.__cause__ or error).split())[:300]
            raise UnsupportedArchitectureError(
                found=f"{name_of(module)} cannot be exported to ONNX ({reason})",
                wanted="a network that torch.onnx.export supports",
                remedy="try --format openvino, or another backbone",
            ) from error
    if program is None:
        raise UnsupportedArchitectureError(
            found=f"torch.onnx.export returned no program for {name_of(module)}",
            wanted="torch 2.13 or later",
            remedy="update torch",
        )
    _name_axes(program.model, dynamic_axes)
    return program.model


def _name_axes(model: onnx_ir.Model, dynamic_axes: Mapping[str, Mapping[int, str]]) -> None:
    names: dict[str, str] = {}
    for value in model.graph.inputs:
        axes = dynamic_axes[str(value.name)]
        for axis, name in axes.items():
            names.setdefault(str(shape_of(value)[axis]), name)
    for value in [*model.graph.inputs, *model.graph.outputs]:
        dims = [names.get(str(dim), dim) if isinstance(dim, onnx_ir.SymbolicDim) else dim for dim in shape_of(value)]
        value.shape = onnx_ir.Shape(dims)


def share_weights(model: onnx_ir.Model, other: onnx_ir.Model, folder: Path) -> None:
    """Make the weights of `model` refer to equal weights in the data file of `other`, so that they are stored once.

    Small weights, and weights that `other` does not have, stay in the graph.
    """
    places = {}
    for weight in other.graph.initializers.values():
        if isinstance(weight.const_value, onnx_ir.ExternalTensor):
            places[_content(weight.const_value)] = weight.const_value
    for weight in model.graph.initializers.values():
        if weight.const_value is None:
            continue
        place = places.get(_content(weight.const_value))
        if place is not None:
            weight.const_value = onnx_ir.ExternalTensor(
                location=place.location,
                offset=place.offset,
                length=place.length,
                dtype=place.dtype,
                shape=place.shape,
                name=str(weight.name),
                base_dir=folder,
            )


def add_weights(model: onnx_ir.Model, data_file: Path) -> None:
    """Move large tensors that only this graph has, such as tables by position, to a shared data file.

    Args:
        model: The model, changed in place: afterwards, its tensors refer to the file.
        data_file: The data file, in the folder that the graph will be saved to.
    """
    with data_file.open("ab") as data:
        for weight in model.graph.initializers.values():
            tensor = weight.const_value
            if tensor is None or isinstance(tensor, onnx_ir.ExternalTensor) or tensor.nbytes < SMALLEST_APART_BYTES:
                continue
            data.write(bytes(-data.tell() % _ALIGNMENT_BYTES))
            weight.const_value = onnx_ir.ExternalTensor(
                location=data_file.name,
                offset=data.tell(),
                length=tensor.nbytes,
                dtype=tensor.dtype,
                shape=onnx_ir.Shape(tensor.shape.numpy()),
                name=str(weight.name),
                base_dir=data_file.parent,
            )
            data.write(tensor.tobytes())


def _content(tensor: onnx_ir.TensorProtocol) -> tuple[str, tuple[int, ...], str]:
    """A key that identifies equal tensors: dtype, shape, and a digest of the bytes."""
    digest = hashlib.sha256(tensor.tobytes()).hexdigest()
    return tensor.dtype.name, tuple(tensor.shape.numpy()), digest
