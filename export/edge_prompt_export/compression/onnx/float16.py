"""Store the matrices of an ONNX graph in float16; the graph casts them to float32 before it computes with them."""

from __future__ import annotations

import numpy as np
import onnx_ir

from edge_prompt_export.compression.onnx.blocks import SMALLEST
from edge_prompt_export.graphs.onnx.passes.base import GraphPass, broken, constant_tensor, refused

_IN_FULL = {"GroupQueryAttention"}
"""Operators whose constants (cosines and sines by position) stay in full precision."""

_LARGEST = float(np.finfo(np.float16).max)


class StoreInFloat16(GraphPass):
    """Stores initializers with two or more axes in float16, unless a value exceeds its range."""

    def requires(self, model: onnx_ir.Model) -> None:
        """The graph has nodes, before which the casts are put, and its initializers have numbers.

        Raises:
            GraphPreconditionError: It has none, or one has not.
        """
        if not len(model.graph):
            raise refused(self, "a graph without nodes", "a network")
        for value in model.graph.initializers.values():
            constant_tensor(value)

    def rewrite(self, model: onnx_ir.Model) -> bool:
        """See `GraphPass.rewrite`."""
        stored = [value for value in model.graph.initializers.values() if _fits(value)]
        for value in stored:
            _store(model.graph, value)
        return bool(stored)

    def ensures(self, model: onnx_ir.Model) -> None:
        """No initializer that fits into float16 is left in float32.

        Raises:
            GraphPostconditionError: One is left.
        """
        left = [str(value.name) for value in model.graph.initializers.values() if _fits(value)]
        if left:
            raise broken(self, f"{', '.join(left[:5])} in float32", "float16")


def _fits(value: onnx_ir.Value) -> bool:
    """Whether an initializer is stored in float16."""
    tensor = constant_tensor(value)
    if tensor.dtype != onnx_ir.DataType.FLOAT or len(tensor.shape) < 2 or tensor.size < SMALLEST:
        return False
    if any(use.node.op_type in _IN_FULL for use in value.uses()):
        return False
    return bool(np.abs(tensor.numpy()).max() <= _LARGEST)


def _store(graph: onnx_ir.Graph, value: onnx_ir.Value) -> None:
    name, array = str(value.name), constant_tensor(value).numpy()
    cast = onnx_ir.node("Cast", [value], {"to": onnx_ir.DataType.FLOAT.value}, name=f"{name}_as_float")
    cast.outputs[0].shape, cast.outputs[0].type = value.shape, value.type
    value.replace_all_uses_with(cast.outputs[0])
    cast.replace_input_with(0, value)
    value.const_value = onnx_ir.tensor(array.astype(np.float16), name=name)
    value.type = onnx_ir.TensorType(onnx_ir.DataType.FLOAT16)
    graph.insert_before(graph[0], cast)
