"""Store the matrices of an ONNX graph in float16; the graph casts them to float32 before it computes with them."""

from __future__ import annotations

import numpy as np
import onnx_ir

from edge_prompt_export.compression.onnx.blocks import SMALLEST, Same

_IN_FULL = {"GroupQueryAttention"}
"""Operators whose constants (cosines and sines by position) stay in full precision."""

_LARGEST = float(np.finfo(np.float16).max)


def to_halves(model: onnx_ir.Model) -> dict[str, Same]:
    """Store initializers with two or more axes in float16, in place, unless a value exceeds its range.

    Args:
        model: The model, in fp32.

    Returns:
        An empty mapping: no initializer has the same bytes as another.
    """
    graph = model.graph
    for value in list(graph.initializers.values()):
        tensor = value.const_value
        if tensor is None or tensor.dtype != onnx_ir.DataType.FLOAT or len(tensor.shape) < 2 or tensor.size < SMALLEST:
            continue
        if any(use.node.op_type in _IN_FULL for use in value.uses()):
            continue
        array = tensor.numpy()
        if np.abs(array).max() > _LARGEST:
            continue
        name = str(value.name)
        cast = onnx_ir.node("Cast", [value], {"to": onnx_ir.DataType.FLOAT.value}, name=f"{name}_as_float")
        cast.outputs[0].shape, cast.outputs[0].type = value.shape, value.type
        value.replace_all_uses_with(cast.outputs[0])
        cast.replace_input_with(0, value)
        value.const_value = onnx_ir.tensor(array.astype(np.float16), name=name)
        value.type = onnx_ir.TensorType(onnx_ir.DataType.FLOAT16)
        graph.insert_before(graph[0], cast)
    return {}
