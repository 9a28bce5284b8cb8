"""Small graphs, and the outputs that ONNX Runtime computes for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir
import onnxruntime
from numpy.typing import NDArray

from edge_prompt_export.graphs.onnx.passes.attention import ORT_DOMAIN

Arrays = Mapping[str, NDArray[Any]]


def value(name: str, shape: Sequence[int | str] | None, dtype: Any = onnx_ir.DataType.FLOAT) -> onnx_ir.Value:
    """A value; without a shape if it is None."""
    return onnx_ir.Value(
        name=name, shape=None if shape is None else onnx_ir.Shape(shape), type=onnx_ir.TensorType(dtype)
    )


def constant(name: str, array: NDArray[Any]) -> onnx_ir.Value:
    """An initializer."""
    tensor = onnx_ir.tensor(array, name=name)
    return onnx_ir.Value(
        name=name, shape=onnx_ir.Shape(array.shape), type=onnx_ir.TensorType(tensor.dtype), const_value=tensor
    )


def random(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def model_of(
    inputs: Sequence[onnx_ir.Value],
    outputs: Sequence[onnx_ir.Value],
    nodes: Sequence[onnx_ir.Node],
    initializers: Sequence[onnx_ir.Value] = (),
) -> onnx_ir.Model:
    graph = onnx_ir.Graph(
        inputs, outputs, nodes=nodes, initializers=initializers, opset_imports={"": 20, ORT_DOMAIN: 1}, name="graph"
    )
    return onnx_ir.Model(graph, ir_version=10)


def outputs_of(model: onnx_ir.Model, feeds: Arrays) -> dict[str, NDArray[Any]]:
    """What ONNX Runtime computes, without its own optimiser, for the inputs that the graph takes."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    content = onnx_ir.serde.serialize_model(model).SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    taken = {one.name: feeds[one.name] for one in session.get_inputs()}
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(names, taken), strict=True))


def assert_same(found: Arrays, wanted: Arrays, atol: float = 1e-5) -> None:
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, rtol=0, atol=atol, err_msg=name)
