"""Matrices of an ONNX graph in blocks of 8 or 4 bits, as ONNX Runtime's quantiser makes and its operators read them.

What a linear layer multiplies by is cut along its input into blocks that share a scale, symmetric about zero, and
multiplied by `MatMulNBits`, which rounds activations to 8 bits, too, a block at a time. Rows of embeddings are looked
up by `GatherBlockQuantized`. Where embeddings and output layer are tied both read the same bytes. Embeddings and output
layers have 8 bits where others have 4. Convolutions and products of three axes, as of experts, stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from edge_prompt_export.compression.onnx.quantizer import quantized
from edge_prompt_export.conditioning.onnx_attention import ORT_DOMAIN
from edge_prompt_export.graphs.onnx.values import constant_of


class Blocks(NamedTuple):
    """How a matrix is cut.

    Attributes:
        bits: Of a number.
        block_size: Numbers that share a scale, at most.
    """

    bits: int
    block_size: int


BLOCKS = {"int8": Blocks(8, 64), "int4": Blocks(4, 32)}
"""By weights; `benchmarks/questions/weights.py` compares others."""

OUTER_BLOCKS = Blocks(8, 64)
"""Of embeddings and output layers."""

LEAST_BLOCK = 16
"""Smaller ones the operators do not take; a matrix whose input is no multiple of it is filled up with zeros."""

SMALLEST = 512
"""Matrices of fewer numbers stay as they are."""

INT8_ACTIVATIONS = 4
"""The operator's own word for what it computes in: activations in 8 bits, a scale a block."""


class Same(NamedTuple):
    """Where the bytes of an initializer lie already: those of `other`, in this shape."""

    other: str
    shape: tuple[int, ...]


class _Linear(NamedTuple):
    """A product with a matrix: the node, the matrix's initializer, and whether its rows are outputs, not inputs."""

    node: onnx_ir.Node
    weight: onnx_ir.Value
    by_output: bool


Calibrated = Callable[[NDArray[np.float32], int, str], tuple[NDArray[np.uint8], NDArray[np.float32]] | None]
"""From a matrix `[inputs, outputs]`, a block size and the name of what it multiplies to 4-bit numbers and scales, or
None where nothing is known of these; see `edge_prompt_export.compression.onnx.gptq`."""


def multiplied(model: onnx_ir.Model, blocks: Blocks) -> list[onnx_ir.Value]:
    """What is multiplied by the matrices that `to_blocks` stores in `blocks`."""
    graph = model.graph
    tables = {lookup.inputs[0].name for lookup in _lookups(graph) if lookup.inputs[0]}
    linears = [linear for linear in _linears(graph) if _blocks_of(linear, tables, blocks) == blocks]
    return [linear.node.inputs[0] for linear in linears if linear.node.inputs[0] is not None]


def to_blocks(model: onnx_ir.Model, blocks: Blocks, calibrated: Calibrated | None = None) -> dict[str, Same]:
    """Store matrices in blocks, in place.

    Args:
        model: The model, in fp32.
        blocks: Of linear layers; others are as the constants here say.
        calibrated: What rounds linear layers to 4 bits on texts; None rounds each number to the nearest.

    Returns:
        By name, initializers that are the same bytes as another.
    """
    graph = model.graph
    same: dict[str, Same] = {}
    lookups = list(_lookups(graph))
    tables = {lookup.inputs[0].name for lookup in lookups if lookup.inputs[0]}
    packed: dict[tuple[str, bool], _Packed] = {}
    for linear in list(_linears(graph)):
        name = str(linear.weight.name)
        key = name, linear.by_output
        if key not in packed:
            packed[key] = _pack(graph, linear, _blocks_of(linear, tables, blocks), calibrated)
        _multiply(linear, packed[key])
    for lookup in lookups:
        table = lookup.inputs[0]
        assert table is not None  # noqa: S101 - it was found
        key = str(table.name), True
        if key not in packed:
            packed[key] = _pack(graph, _Linear(lookup, table, by_output=True), OUTER_BLOCKS)
        same |= _look_up(graph, lookup, packed[key])
    model.opset_imports[ORT_DOMAIN] = 1
    return same


def _blocks_of(linear: _Linear, tables: Collection[str | None], blocks: Blocks) -> Blocks:
    """`blocks`, but of an output layer, or of one that is tied to embeddings."""
    last = linear.node.outputs[0].is_graph_output() or (linear.weight.name in tables and linear.by_output)
    return OUTER_BLOCKS if last else blocks


class _Packed(NamedTuple):
    """A matrix in blocks: its numbers `[outputs, blocks, bytes]`, its scales `[outputs, blocks]`, and its sizes."""

    numbers: onnx_ir.Value
    scales: onnx_ir.Value
    blocks: Blocks
    inputs: int
    outputs: int


def _lookups(graph: onnx_ir.Graph) -> Iterator[onnx_ir.Node]:
    """The nodes that take rows of a table."""
    for node in graph:
        if node.op_type == "Gather" and node.domain == "" and _axis(node) == 0 and _matrix(node.inputs[0]) is not None:
            yield node


def _linears(graph: onnx_ir.Graph) -> Iterator[_Linear]:
    """The nodes that multiply by a matrix."""
    for node in graph:
        if node.domain == "" and node.op_type in _FINDERS:
            found = _FINDERS[node.op_type](node)
            if found is not None:
                yield found


def _matmul(node: onnx_ir.Node) -> _Linear | None:
    weight = node.inputs[1]
    if _matrix(weight) is not None:
        assert weight is not None  # noqa: S101 - a matrix was found
        return _Linear(node, weight, by_output=False)
    turned = weight.producer() if weight is not None else None
    if turned is not None and turned.op_type == "Transpose" and _matrix(turned.inputs[0]) is not None:
        assert turned.inputs[0] is not None  # noqa: S101 - a matrix was found
        return _Linear(node, turned.inputs[0], by_output=True)
    return None


def _gemm(node: onnx_ir.Node) -> _Linear | None:
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    plain = attributes.get("alpha", 1.0) == attributes.get("beta", 1.0) == 1.0 and not attributes.get("transA", 0)
    weight = node.inputs[1]
    if not plain or weight is None or _matrix(weight) is None:
        return None
    return _Linear(node, weight, by_output=bool(attributes.get("transB", 0)))


_FINDERS = {"MatMul": _matmul, "Gemm": _gemm}


def _axis(node: onnx_ir.Node) -> int:
    return int(node.attributes["axis"].value) if "axis" in node.attributes else 0


def _matrix(value: onnx_ir.Value | None) -> NDArray[np.float32] | None:
    """The matrix of an initializer in float32 that is large enough."""
    tensor = value.const_value if value is not None and value.is_initializer() else None
    if tensor is None or tensor.dtype != onnx_ir.DataType.FLOAT or len(tensor.shape) != 2 or tensor.size < SMALLEST:
        return None
    found: NDArray[np.float32] = tensor.numpy()
    return found


def _pack(graph: onnx_ir.Graph, linear: _Linear, blocks: Blocks, calibrated: Calibrated | None = None) -> _Packed:
    matrix = _matrix(linear.weight)
    assert matrix is not None  # noqa: S101 - it was found
    by_input = np.ascontiguousarray(matrix.T if linear.by_output else matrix)
    inputs, outputs = by_input.shape
    fitting = blocks._replace(block_size=_block_size(inputs, blocks.block_size))
    input_name = str(linear.node.inputs[0].name) if linear.node.inputs[0] is not None else ""
    on_texts = calibrated(by_input, fitting.block_size, input_name) if calibrated and fitting.bits == 4 else None
    numbers, scales = on_texts or quantized(by_input, fitting.bits, fitting.block_size)
    name = f"{linear.weight.name}_{'rows' if linear.by_output else 'columns'}"
    return _Packed(
        constant_of(graph, f"{name}_int{fitting.bits}", numbers),
        constant_of(graph, f"{name}_scales", scales),
        fitting,
        inputs,
        outputs,
    )


def _block_size(inputs: int, largest: int) -> int:
    """The largest power of two up to `largest` that fits."""
    size = largest
    while size > LEAST_BLOCK and inputs % size:
        size //= 2
    return size


def _multiply(linear: _Linear, packed: _Packed) -> None:
    """Put the operator that multiplies by blocks in the place of a product."""
    node = linear.node
    product = onnx_ir.node(
        "MatMulNBits",
        [node.inputs[0], packed.numbers, packed.scales],
        {
            "K": packed.inputs,
            "N": packed.outputs,
            "bits": packed.blocks.bits,
            "block_size": packed.blocks.block_size,
            "accuracy_level": INT8_ACTIVATIONS,
        },
        domain=ORT_DOMAIN,
        name=node.name,
    )
    new = [product]
    if node.op_type == "Gemm" and len(node.inputs) == 3:
        new.append(onnx_ir.node("Add", [product.outputs[0], node.inputs[2]], name=f"{node.name}_bias"))
    _replace(node, new)


def _look_up(graph: onnx_ir.Graph, node: onnx_ir.Node, packed: _Packed) -> dict[str, Same]:
    """Put the operator that looks up rows of blocks in the place of a lookup."""
    assert packed.numbers.const_value is not None  # noqa: S101 - it was made here
    numbers = packed.numbers.const_value.numpy().reshape(packed.outputs, -1)[:, : packed.inputs]
    name = f"{packed.numbers.name}_looked_up"
    same = {} if name in graph.initializers else _same(name, packed, numbers.shape)
    rows = graph.initializers[name] if name in graph.initializers else constant_of(graph, name, numbers)
    attributes = {
        "bits": packed.blocks.bits,
        "block_size": packed.blocks.block_size,
        "gather_axis": 0,
        "quantize_axis": 1,
    }
    inputs = [rows, node.inputs[1], packed.scales]
    _replace(node, [onnx_ir.node("GatherBlockQuantized", inputs, attributes, domain=ORT_DOMAIN, name=node.name)])
    return same


def _same(name: str, packed: _Packed, shape: tuple[int, ...]) -> dict[str, Same]:
    """That rows are the bytes that are multiplied by, if that is done and nothing was filled up."""
    whole = packed.inputs % packed.blocks.block_size == 0
    return {name: Same(str(packed.numbers.name), shape)} if whole and packed.numbers.uses() else {}


def _replace(node: onnx_ir.Node, new: list[onnx_ir.Node]) -> None:
    old, last = node.outputs[0], new[-1].outputs[0]
    last.name, last.shape, last.type = old.name, old.shape, old.type
    assert node.graph is not None  # noqa: S101 - it is in one
    onnx_ir.convenience.replace_nodes_and_values(node.graph, node, [node], new, [old], [last])
