"""Join products that share an input, such as those of queries, keys and values, into one.

A decoding step of a small language model consists of a few hundred products with one row each, and every product
synchronises all threads twice. The matrices are concatenated, and the output is split or passed to attention as it is.
Each sum is computed in the same order as before.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir

from edge_prompt_export.conditioning.onnx_attention import replace_attention
from edge_prompt_export.graphs.onnx.values import constant_of


def join_products(model: onnx_ir.Model) -> None:
    """Join products of the same value with constant matrices, and the biases added to them, in place.

    Args:
        model: A model whose matrices are initializers, `[inputs, outputs]`.
    """
    graph = model.graph
    readers: dict[onnx_ir.Value, list[onnx_ir.Node]] = {}
    for node in graph:
        if node.op_type == "MatMul" and node.domain == "" and node.inputs[0] is not None and _matrix(node):
            readers.setdefault(node.inputs[0], []).append(node)
    for value, products in readers.items():
        if len(products) > 1:
            _join(graph, value, products)


def attend_to_joined(model: onnx_ir.Model) -> None:
    """Pass attention the joined queries, keys and values instead of splitting them first, in place.

    Args:
        model: A model that uses ONNX Runtime's attention.
    """
    for node in [node for node in model.graph if node.op_type == "GroupQueryAttention"]:
        parts = node.inputs[:3]
        split = parts[0].producer() if parts[0] is not None else None
        if split is not None and split.op_type == "Split" and tuple(split.outputs) == tuple(parts):
            replace_attention(node, [split.inputs[0], None, None, *node.inputs[3:]], {})


def _matrix(product: onnx_ir.Node) -> bool:
    """Whether the matrix is a constant that only this product uses, and the product is not an output of the graph."""
    matrix = product.inputs[1]
    constant = matrix is not None and matrix.is_initializer() and len(matrix.uses()) == 1
    return constant and len(_constant(matrix).shape) == 2 and not product.outputs[0].is_graph_output()


def _join(graph: onnx_ir.Graph, value: onnx_ir.Value, products: Sequence[onnx_ir.Node]) -> None:
    matrices = [matrix for product in products if (matrix := product.inputs[1]) is not None]
    sizes = [_constant(matrix).numpy().shape[1] for matrix in matrices]
    name = f"{matrices[0].name}_joined"
    joined = onnx_ir.node("MatMul", [value, _side_by_side(graph, name, matrices)], name=f"{products[0].name}_joined")
    new, ends = [joined], list(products)
    sums = [_sum_of(product, size) for product, size in zip(products, sizes, strict=True)]
    if all(sums):
        ends = [node for node, _ in filter(None, sums)]
        biases = _side_by_side(graph, f"{name}_bias", [bias for _, bias in filter(None, sums)])
        new.append(onnx_ir.node("Add", [joined.outputs[0], biases], name=f"{joined.name}_bias"))
    for node in new:
        node.outputs[0].shape = onnx_ir.Shape([*_shape(value)[:-1], sum(sizes)])
        node.outputs[0].type = value.type
    split = onnx_ir.node(
        "Split",
        [new[-1].outputs[0], constant_of(graph, f"{name}_sizes", np.array(sizes, np.int64))],
        {"axis": -1},
        num_outputs=len(sizes),
        name=f"{joined.name}_parts",
    )
    old = [end.outputs[0] for end in ends]
    for part, was in zip(split.outputs, old, strict=True):
        part.shape, part.type = was.shape, was.type
    gone = [*products, *(end for end in ends if end not in products)]
    onnx_ir.convenience.replace_nodes_and_values(graph, products[0], gone, [*new, split], old, list(split.outputs))
    for matrix in matrices:
        graph.initializers.pop(str(matrix.name))


def _sum_of(product: onnx_ir.Node, size: int) -> tuple[onnx_ir.Node, onnx_ir.Value] | None:
    """The node that adds a bias of `size` numbers to a product, and the bias; None if there is no such node."""
    uses = list(product.outputs[0].uses())
    if len(uses) != 1 or uses[0].node.op_type != "Add" or uses[0].node.outputs[0].is_graph_output():
        return None
    node = uses[0].node
    bias = node.inputs[1 - uses[0].idx]
    if bias is None or not bias.is_initializer() or tuple(_constant(bias).shape) != (size,):
        return None
    return node, bias


def _side_by_side(graph: onnx_ir.Graph, name: str, parts: Sequence[onnx_ir.Value]) -> onnx_ir.Value:
    """Concatenate constants along their last axis."""
    return constant_of(graph, name, np.concatenate([_constant(part).numpy() for part in parts], axis=-1))


def _constant(value: onnx_ir.Value | None) -> onnx_ir.TensorProtocol:
    assert value is not None  # noqa: S101 - asked before
    assert value.const_value is not None  # noqa: S101 - an initializer has one
    return value.const_value


def _shape(value: onnx_ir.Value) -> onnx_ir.Shape:
    assert value.shape is not None  # noqa: S101 - the exporter gives every value a shape
    return value.shape
