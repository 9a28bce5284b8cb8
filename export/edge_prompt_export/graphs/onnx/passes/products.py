"""One product where several matrices multiply the same numbers, as those of queries, keys and values do.

A step of a small language model is a few hundred products of one row, and each begins and ends with a meeting of
threads. The matrices are joined side by side, and what comes out is split, or read by attention as it is: the same sums
in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir

from edge_prompt_export.conditioning.onnx_attention import replace_attention
from edge_prompt_export.graphs.onnx.values import constant_of


def join_products(model: onnx_ir.Model) -> None:
    """Join products of the same value with constant matrices, in place, with the constants that are added to each.

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
    """Give attention what queries, keys and values are split from, where it is that, in place.

    Args:
        model: A model whose attention is ONNX Runtime's.
    """
    for node in [node for node in model.graph if node.op_type == "GroupQueryAttention"]:
        parts = node.inputs[:3]
        split = parts[0].producer() if parts[0] is not None else None
        if split is not None and split.op_type == "Split" and tuple(split.outputs) == tuple(parts):
            replace_attention(node, [split.inputs[0], None, None, *node.inputs[3:]], {})


def _matrix(product: onnx_ir.Node) -> bool:
    """Whether the matrix is a constant of this product alone, whose result is not the graph's."""
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
    """The addition of a constant of `size` numbers that a product ends in, and the constant."""
    uses = list(product.outputs[0].uses())
    if len(uses) != 1 or uses[0].node.op_type != "Add" or uses[0].node.outputs[0].is_graph_output():
        return None
    node = uses[0].node
    bias = node.inputs[1 - uses[0].idx]
    if bias is None or not bias.is_initializer() or tuple(_constant(bias).shape) != (size,):
        return None
    return node, bias


def _side_by_side(graph: onnx_ir.Graph, name: str, parts: Sequence[onnx_ir.Value]) -> onnx_ir.Value:
    """A constant made of others."""
    return constant_of(graph, name, np.concatenate([_constant(part).numpy() for part in parts], axis=-1))


def _constant(value: onnx_ir.Value | None) -> onnx_ir.TensorProtocol:
    assert value is not None  # noqa: S101 - asked before
    assert value.const_value is not None  # noqa: S101 - an initializer has one
    return value.const_value


def _shape(value: onnx_ir.Value) -> onnx_ir.Shape:
    assert value.shape is not None  # noqa: S101 - the exporter gives every value a shape
    return value.shape
