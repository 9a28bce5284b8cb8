"""Constants of an ONNX graph."""

from __future__ import annotations

from typing import Any

import onnx_ir
from numpy.typing import NDArray


def constant_of(graph: onnx_ir.Graph, name: str, array: NDArray[Any]) -> onnx_ir.Value:
    """Add an array to the graph as an initializer.

    Args:
        graph: The graph, changed in place.
        name: The name of the initializer.
        array: The array.

    Returns:
        The initializer.
    """
    tensor = onnx_ir.tensor(array, name=name)
    value = onnx_ir.Value(
        name=name, shape=onnx_ir.Shape(array.shape), type=onnx_ir.TensorType(tensor.dtype), const_value=tensor
    )
    graph.register_initializer(value)
    return value
