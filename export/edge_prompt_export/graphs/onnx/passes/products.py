"""Join products that share an input, such as those of queries, keys and values, into one.

A decoding step of a small language model consists of a few hundred products with one row each, and every product
synchronises all threads twice. The matrices are concatenated, and the output is split or passed to attention as it is.
Each sum is computed in the same order as before. The graph is walked by hand, because a pattern of onnxscript's
rewriter matches a fixed number of nodes, and any number of products may share an input.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir

from edge_prompt_export.graphs.onnx.passes.attention import ort_attentions, replace_attention
from edge_prompt_export.graphs.onnx.passes.base import (
    GraphPass,
    broken,
    constant_tensor,
    input_of,
    refused,
    shape_of,
)
from edge_prompt_export.graphs.onnx.values import constant_of


class JoinProducts(GraphPass):
    """Joins products of the same value with constant matrices, and the biases added to them."""

    def requires(self, model: onnx_ir.Model) -> None:
        """The values that are multiplied have shapes, and the matrices `[inputs, outputs]` have numbers.

        Raises:
            GraphPreconditionError: One has not.
        """
        for value, products in _products(model.graph).items():
            if len(products) > 1:
                shape_of(value)

    def rewrite(self, model: onnx_ir.Model) -> bool:
        """See `GraphPass.rewrite`."""
        several = [(value, products) for value, products in _products(model.graph).items() if len(products) > 1]
        for value, products in several:
            _join(model.graph, value, products)
        return bool(several)

    def ensures(self, model: onnx_ir.Model) -> None:
        """No value is multiplied by two matrices of its own.

        Raises:
            GraphPostconditionError: One is.
        """
        left = [str(value.name) for value, products in _products(model.graph).items() if len(products) > 1]
        if left:
            raise broken(self, f"several products of {', '.join(left)}", "one product per value")


class PackedAttention(GraphPass):
    """Passes ONNX Runtime's attention the joined queries, keys and values instead of splitting them first."""

    def requires(self, model: onnx_ir.Model) -> None:
        """Every attention has queries, and its parts are split along the last axis.

        Raises:
            GraphPreconditionError: One has not.
        """
        for node in ort_attentions(model):
            input_of(node, 0)
            split = _split_of(node)
            last = (-1, len(shape_of(split.outputs[0])) - 1) if split is not None else ()
            if split is not None and split.attributes.get_int("axis", 0) not in last:
                raise refused(self, f"parts of {node.name} that are split along another axis", "the last axis")

    def rewrite(self, model: onnx_ir.Model) -> bool:
        """See `GraphPass.rewrite`."""
        found = [(node, split) for node in ort_attentions(model) if (split := _split_of(node)) is not None]
        for node, split in found:
            replace_attention(node, [split.inputs[0], None, None, *node.inputs[3:]], {})
        return bool(found)

    def ensures(self, model: onnx_ir.Model) -> None:
        """No attention reads the parts of a split.

        Raises:
            GraphPostconditionError: One does.
        """
        left = [str(node.name) for node in ort_attentions(model) if _split_of(node) is not None]
        if left:
            raise broken(self, f"split parts of {', '.join(left)}", "joined parts")


def _split_of(attention: onnx_ir.Node) -> onnx_ir.Node | None:
    """The node that splits the joined queries, keys and values of an attention; None if they are not joined."""
    parts = tuple(attention.inputs[:3])
    split = parts[0].producer() if parts[0] is not None else None
    return split if split is not None and split.op_type == "Split" and tuple(split.outputs) == parts else None


def _products(graph: onnx_ir.Graph) -> dict[onnx_ir.Value, list[onnx_ir.Node]]:
    """The products with constant matrices, by the value that is multiplied."""
    products: dict[onnx_ir.Value, list[onnx_ir.Node]] = {}
    for node in graph:
        if node.op_type == "MatMul" and node.domain == "" and _has_own_matrix(node):
            products.setdefault(input_of(node, 0), []).append(node)
    return products


def _has_own_matrix(product: onnx_ir.Node) -> bool:
    """Whether the matrix is a constant that only this product uses, and the product is not an output of the graph."""
    matrix = input_of(product, 1)
    if not matrix.is_initializer() or len(matrix.uses()) != 1 or product.outputs[0].is_graph_output():
        return False
    return len(constant_tensor(matrix).shape) == 2


def _join(graph: onnx_ir.Graph, value: onnx_ir.Value, products: Sequence[onnx_ir.Node]) -> None:
    matrices = [matrix for product in products if (matrix := product.inputs[1]) is not None]
    sizes = [constant_tensor(matrix).numpy().shape[1] for matrix in matrices]
    name = f"{matrices[0].name}_joined"
    joined = onnx_ir.node("MatMul", [value, _side_by_side(graph, name, matrices)], name=f"{products[0].name}_joined")
    new, ends = [joined], list(products)
    sums = [_sum_of(product, size) for product, size in zip(products, sizes, strict=True)]
    if all(sums):
        ends = [node for node, _ in filter(None, sums)]
        biases = _side_by_side(graph, f"{name}_bias", [bias for _, bias in filter(None, sums)])
        new.append(onnx_ir.node("Add", [joined.outputs[0], biases], name=f"{joined.name}_bias"))
    for node in new:
        node.outputs[0].shape = onnx_ir.Shape([*shape_of(value)[:-1], sum(sizes)])
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
    if bias is None or not bias.is_initializer() or tuple(constant_tensor(bias).shape) != (size,):
        return None
    return node, bias


def _side_by_side(graph: onnx_ir.Graph, name: str, parts: Sequence[onnx_ir.Value]) -> onnx_ir.Value:
    """Concatenate constants along their last axis."""
    return constant_of(graph, name, np.concatenate([constant_tensor(part).numpy() for part in parts], axis=-1))
