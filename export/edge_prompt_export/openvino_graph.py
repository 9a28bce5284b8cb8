"""Writing the OpenVINO IR: traced from torch, so attention stays one operation, every size dynamic."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import openvino
import torch

from edge_prompt.errors import UnsupportedArchitectureError
from edge_prompt_export.families.text_encoder import ConditionedTextEncoder
from edge_prompt_export.quiet import quiet

OPENVINO_FILE = "openvino_model.xml"
OPENVINO_DATA_FILE = "openvino_model.bin"


def write_openvino(module: ConditionedTextEncoder, folder: Path, metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Write the module's graph into `folder`.

    Args:
        module: The conditioned module.
        folder: Where to.
        metadata: What made it, for the file's runtime information.

    Returns:
        The names of the files written; the first is the one to open.

    Raises:
        UnsupportedArchitectureError: The converter cannot follow the network.
    """
    inputs = module.example_inputs(batch=2, sequence=5, virtual_tokens=3, prefix_length=4)
    dynamic = module.dynamic_axes()
    shapes = [
        openvino.PartialShape([-1 if axis in dynamic[name] else length for axis, length in enumerate(tensor.shape)])
        for name, tensor in inputs.items()
    ]
    with quiet(), torch.no_grad():  # the tracer warns of every size that it reads
        try:
            model = openvino.convert_model(_Positional(module), example_input=tuple(inputs.values()), input=shapes)
        except Exception as error:  # the converter has no common class of its own
            reason = " ".join(str(error.__cause__ or error).split())[:300]
            raise UnsupportedArchitectureError(
                found=f"{type(module.model).__name__} cannot be converted ({reason})",
                wanted="a network that openvino.convert_model can follow",
                remedy="try --format onnx, or another backbone",
            ) from error
    for port, name in zip(model.inputs, module.input_names, strict=True):
        port.get_tensor().set_names({name})
        port.get_node().set_friendly_name(name)
    for port, name in zip(model.outputs, module.output_names, strict=True):
        port.get_tensor().set_names({name})
    for key, value in metadata.items():
        model.set_rt_info(value, ["edge_prompt", key])
    openvino.save_model(model, folder / OPENVINO_FILE, compress_to_fp16=False)
    return OPENVINO_FILE, OPENVINO_DATA_FILE


class _Positional(torch.nn.Module):
    """The tracer passes inputs by position."""

    def __init__(self, module: ConditionedTextEncoder) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs: tuple[torch.Tensor, ...] = self.module(**dict(zip(self.module.input_names, inputs, strict=True)))
        return outputs
