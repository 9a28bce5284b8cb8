"""Write OpenVINO IRs with dynamic sizes; they are traced from torch so that attention remains one operation.

OpenVINO writes each IR with a weights file of its own; two IRs share one by editing the offsets in their XML.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import openvino
import torch
from torch import Tensor

from edge_prompt.base.errors import UnsupportedArchitectureError
from edge_prompt.formats.kinds import FOLD_OUTPUTS
from edge_prompt_export.backbone.conditioned_module import ConditionedModule, name_of
from edge_prompt_export.base.library_output import suppress_library_output
from edge_prompt_export.graphs.export_args import Positional
from edge_prompt_export.graphs.fold import FoldModule, GraphFiles
from edge_prompt_export.graphs.openvino.state import make_stateful, record_limits
from edge_prompt_export.modalities.language.network import ConditionedCausalLM

OPENVINO_FILE = "openvino_model.xml"
OPENVINO_DATA_FILE = "openvino_model.bin"
OPENVINO_FOLD_FILE = "openvino_fold.xml"

_ALIGNMENT_BYTES = 64


def write_openvino(module: ConditionedModule, folder: Path, metadata: Mapping[str, str]) -> GraphFiles:
    """Write the module's graph into `folder`, and its folding graph if it takes deep prompts.

    Args:
        module: The conditioned module.
        folder: The folder to write to.
        metadata: Provenance for the file's runtime information.

    Returns:
        The files written.

    Raises:
        UnsupportedArchitectureError: The converter does not support the network.
    """
    model = openvino_model(module, module.trace_inputs(), module.dynamic_axes(), module.output_names, metadata)
    if isinstance(module, ConditionedCausalLM):
        make_stateful(model, module.layer_shapes)
        record_limits(model, module.layer_limits)
    openvino.save_model(model, folder / OPENVINO_FILE, compress_to_fp16=False)
    files = (OPENVINO_FILE, OPENVINO_DATA_FILE)
    if "deep" not in module.kinds:
        return GraphFiles(files)
    folding = FoldModule(module)
    fold = openvino_model(folding, folding.trace_inputs(), folding.dynamic_axes(), FOLD_OUTPUTS, metadata)
    openvino.save_model(fold, folder / OPENVINO_FOLD_FILE, compress_to_fp16=False)
    share_weights(folder, OPENVINO_FOLD_FILE, OPENVINO_FILE)
    return GraphFiles(files, fold=(OPENVINO_FOLD_FILE, OPENVINO_DATA_FILE), fold_weights_file=OPENVINO_DATA_FILE)


def openvino_model(
    module: torch.nn.Module,
    inputs: Mapping[str, Tensor],
    dynamic_axes: Mapping[str, Mapping[int, str]],
    output_names: Sequence[str],
    metadata: Mapping[str, str],
) -> openvino.Model:
    """Convert the module to an OpenVINO model."""
    shapes = [
        openvino.PartialShape(
            [-1 if axis in dynamic_axes[name] else length for axis, length in enumerate(tensor.shape)]
        )
        for name, tensor in inputs.items()
    ]
    with suppress_library_output(), torch.no_grad():  # the tracer warns about every size that it reads
        try:
            model = openvino.convert_model(
                Positional(module, tuple(inputs)), example_input=tuple(inputs.values()), input=shapes
            )
        except Exception as error:  # the converter has no error class of its own
            reason = " ".join(str(error.__cause__ or error).split())[:300]
            raise UnsupportedArchitectureError(
                found=f"{name_of(module)} cannot be converted to OpenVINO ({reason})",
                wanted="a network that openvino.convert_model supports",
                remedy="try --format onnx, or another backbone",
            ) from error
    for port, name in zip(model.inputs, inputs, strict=True):
        port.get_tensor().set_names({name})
        port.get_node().set_friendly_name(name)
    for port, name in zip(model.outputs, output_names, strict=True):
        port.get_tensor().set_names({name})
    for key, value in metadata.items():
        model.set_rt_info(value, ["edge_prompt", key])
    return model


def share_weights(folder: Path, graph_file: str, other_file: str) -> None:
    """Make the constants of one IR refer to equal bytes in another IR's weights file, so that they are stored once.

    Constants that the other IR does not have are appended to its file. The first IR's own weights file is deleted.

    Args:
        folder: The folder of both IRs.
        graph_file: The IR to change.
        other_file: The IR whose weights file both use afterwards.
    """
    own_data, data = (folder / Path(name).with_suffix(".bin").name for name in (graph_file, other_file))
    places = {}
    for constant in _constants(ET.parse(folder / other_file)):  # noqa: S314 - a file that was just written here
        places[_content(data, constant)] = constant.attrib["offset"]
    tree = ET.parse(folder / graph_file)  # noqa: S314
    for constant in _constants(tree):
        content = _content(own_data, constant)
        if content not in places:
            places[content] = str(_append(data, own_data, constant))
        constant.attrib["offset"] = places[content]
    tree.write(folder / graph_file, encoding="utf-8", xml_declaration=True)
    own_data.unlink()


def _constants(tree: ET.ElementTree[ET.Element]) -> Iterator[ET.Element]:
    """The elements of the IR that locate a constant's bytes by `offset` and `size`."""
    return (data for data in tree.iter("data") if "offset" in data.attrib and "size" in data.attrib)


def _bytes_of(data: Path, constant: ET.Element) -> bytes:
    with data.open("rb") as stream:
        stream.seek(int(constant.attrib["offset"]))
        return stream.read(int(constant.attrib["size"]))


def _content(data: Path, constant: ET.Element) -> str:
    return hashlib.sha256(_bytes_of(data, constant)).hexdigest()


def _append(data: Path, own_data: Path, constant: ET.Element) -> int:
    """Append the constant's bytes to `data`, aligned, and return their offset."""
    content = _bytes_of(own_data, constant)
    with data.open("r+b") as stream:
        end = stream.seek(0, os.SEEK_END)
        start = -(-end // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
        stream.write(bytes(start - end) + content)
    return start
