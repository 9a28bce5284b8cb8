"""Block-wise quantisation of an ONNX graph's matrices to 8 or 4 bits, in the format of ONNX Runtime's operators.

The weight of a linear layer is divided along its input axis into blocks that share a symmetric scale. `MatMulNBits`
multiplies by it and also rounds the activations to 8 bits, block by block. `GatherBlockQuantized` looks up rows of
embeddings. If embeddings and output layer are tied, both operators read the same bytes. Embeddings and output layers
always use 8 bits. Convolutions and products with three axes, such as those of experts, stay unchanged.

ONNX Runtime's own quantiser rounds the matrices, but the nodes are replaced here: it packs the matrix of each node on
its own and skips transposed ones, so tied matrices would not share bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from edge_prompt_export.compression.onnx.quantizer import quantize_matrix
from edge_prompt_export.graphs.onnx.passes.attention import ORT_DOMAIN
from edge_prompt_export.graphs.onnx.passes.base import (
    GraphPass,
    broken,
    constant_tensor,
    graph_of,
    input_of,
    refused,
)
from edge_prompt_export.graphs.onnx.values import constant_of


class Blocks(NamedTuple):
    """How a matrix is divided into blocks.

    Attributes:
        bits: Bits per number.
        block_size: Largest number of values that share a scale.
    """

    bits: int
    block_size: int


BLOCKS = {"int8": Blocks(8, 64), "int4": Blocks(4, 32)}
"""The blocks of each weight format; `benchmarks/questions/weights.py` compares alternatives."""

OUTER_BLOCKS = Blocks(8, 64)
"""The blocks of embeddings and output layers."""

LEAST_BLOCK = 16
"""Smallest block size of the operators; a matrix whose input size is not a multiple of it is padded with zeros."""

SMALLEST = 512
"""Matrices with fewer numbers stay unchanged."""

INT8_ACTIVATIONS = 4
"""The operator's `accuracy_level` for 8-bit activations with one scale per block."""


_PRODUCT, _LOOKUP = _OPERATORS = ("MatMulNBits", "GatherBlockQuantized")


class Same(NamedTuple):
    """An initializer that has the same bytes as the initializer `other`, in another shape."""

    other: str
    shape: tuple[int, ...]


class _Linear(NamedTuple):
    """A product with a matrix: the node, the matrix's initializer, and whether the rows of the matrix are outputs."""

    node: onnx_ir.Node
    weight: onnx_ir.Value
    by_output: bool


Calibrated = Callable[[NDArray[np.float32], int, str], tuple[NDArray[np.uint8], NDArray[np.float32]] | None]
"""Rounds a matrix to 4 bits on calibration texts. Takes the matrix `[inputs, outputs]`, a block size, and the name of
the activation that it multiplies; returns numbers and scales, or None without statistics for that activation. See
`edge_prompt_export.compression.onnx.gptq`."""


def calibration_inputs(model: onnx_ir.Model, blocks: Blocks) -> list[onnx_ir.Value]:
    """The activations that are multiplied by the matrices that `StoreInBlocks` stores in `blocks`."""
    graph = model.graph
    tables = {input_of(lookup, 0).name for lookup in _lookups(graph)}
    linears = [linear for linear in _linears(graph) if _blocks_of(linear, tables, blocks) == blocks]
    return [input_of(linear.node, 0) for linear in linears]


class StoreInBlocks(GraphPass):
    """Stores matrices in blocks.

    Args:
        blocks: The blocks of linear layers; embeddings and output layers use `OUTER_BLOCKS`.
        calibrated: Rounds linear layers to 4 bits on calibration texts; None rounds each number to the nearest.

    Attributes:
        same: After a run, by name, the initializers that have the same bytes as another.
    """

    def __init__(self, blocks: Blocks, calibrated: Calibrated | None = None) -> None:
        super().__init__()
        self._blocks = blocks
        self._calibrated = calibrated
        self.same: dict[str, Same] = {}

    def requires(self, model: onnx_ir.Model) -> None:
        """The matrices are in fp32.

        Raises:
            GraphPreconditionError: The graph has blocks already.
        """
        stored = [node.op_type for node in model.graph if node.op_type in _OPERATORS]
        if stored:
            raise refused(self, f"{len(stored)} matrices that are stored in blocks already", "a graph in fp32")

    def rewrite(self, model: onnx_ir.Model) -> bool:
        """See `GraphPass.rewrite`."""
        graph = model.graph
        self.same = {}
        lookups = list(_lookups(graph))
        tables = {input_of(lookup, 0).name for lookup in lookups}
        packed: dict[tuple[str, bool], _Packed] = {}
        for linear in list(_linears(graph)):
            key = str(linear.weight.name), linear.by_output
            if key not in packed:
                blocks = _blocks_of(linear, tables, self._blocks)
                packed[key] = _pack(graph, linear, blocks, self._calibrated)
            _multiply(linear, packed[key])
        for lookup in lookups:
            table = input_of(lookup, 0)
            key = str(table.name), True
            if key not in packed:
                packed[key] = _pack(graph, _Linear(lookup, table, by_output=True), OUTER_BLOCKS)
            self.same |= _look_up(graph, lookup, packed[key])
        model.opset_imports[ORT_DOMAIN] = 1
        return bool(packed)

    def ensures(self, model: onnx_ir.Model) -> None:
        """No linear layer or lookup has a matrix in fp32.

        Raises:
            GraphPostconditionError: One has.
        """
        left = [*(linear.node for linear in _linears(model.graph)), *_lookups(model.graph)]
        if left:
            raise broken(self, f"{left[0].op_type} {left[0].name} with a matrix in fp32", "blocks")


def _blocks_of(linear: _Linear, tables: Collection[str | None], blocks: Blocks) -> Blocks:
    """`OUTER_BLOCKS` for an output layer or a layer that is tied to embeddings, otherwise `blocks`."""
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
    """The nodes that look up rows of a table."""
    for node in graph:
        if (
            node.op_type == "Gather"
            and node.domain == ""
            and _axis(node) == 0
            and _matrix(input_of(node, 0)) is not None
        ):
            yield node


def _linears(graph: onnx_ir.Graph) -> Iterator[_Linear]:
    """The nodes that multiply by a matrix."""
    for node in graph:
        if node.domain == "" and node.op_type in _FINDERS:
            found = _FINDERS[node.op_type](node)
            if found is not None:
                yield found


def _matmul(node: onnx_ir.Node) -> _Linear | None:
    weight = input_of(node, 1)
    if _matrix(weight) is not None:
        return _Linear(node, weight, by_output=False)
    transposed = weight.producer()
    if transposed is not None and transposed.op_type == "Transpose" and _matrix(input_of(transposed, 0)) is not None:
        return _Linear(node, input_of(transposed, 0), by_output=True)
    return None


def _gemm(node: onnx_ir.Node) -> _Linear | None:
    attributes = {name: attribute.value for name, attribute in node.attributes.items()}
    plain = attributes.get("alpha", 1.0) == attributes.get("beta", 1.0) == 1.0 and not attributes.get("transA", 0)
    weight = input_of(node, 1)
    if not plain or _matrix(weight) is None:
        return None
    return _Linear(node, weight, by_output=bool(attributes.get("transB", 0)))


_FINDERS = {"MatMul": _matmul, "Gemm": _gemm}


def _axis(node: onnx_ir.Node) -> int:
    return int(node.attributes["axis"].value) if "axis" in node.attributes else 0


def _matrix(value: onnx_ir.Value) -> NDArray[np.float32] | None:
    """The matrix of an initializer; None if it is not a float32 matrix of at least `SMALLEST` numbers."""
    tensor = value.const_value if value.is_initializer() else None
    if tensor is None or tensor.dtype != onnx_ir.DataType.FLOAT or len(tensor.shape) != 2 or tensor.size < SMALLEST:
        return None
    found: NDArray[np.float32] = tensor.numpy()
    return found


def _pack(graph: onnx_ir.Graph, linear: _Linear, blocks: Blocks, calibrated: Calibrated | None = None) -> _Packed:
    matrix: NDArray[np.float32] = constant_tensor(linear.weight).numpy()
    by_input = np.ascontiguousarray(matrix.T if linear.by_output else matrix)
    inputs, outputs = by_input.shape
    fitting = blocks._replace(block_size=_block_size(inputs, blocks.block_size))
    input_name = str(input_of(linear.node, 0).name)
    on_texts = calibrated(by_input, fitting.block_size, input_name) if calibrated and fitting.bits == 4 else None
    numbers, scales = on_texts or quantize_matrix(by_input, fitting.bits, fitting.block_size)
    name = f"{linear.weight.name}_{'rows' if linear.by_output else 'columns'}"
    return _Packed(
        constant_of(graph, f"{name}_int{fitting.bits}", numbers),
        constant_of(graph, f"{name}_scales", scales),
        fitting,
        inputs,
        outputs,
    )


def _block_size(inputs: int, largest: int) -> int:
    """The largest power of two up to `largest` that divides `inputs`, but at least `LEAST_BLOCK`."""
    size = largest
    while size > LEAST_BLOCK and inputs % size:
        size //= 2
    return size


def _multiply(linear: _Linear, packed: _Packed) -> None:
    """Replace a product by the operator that multiplies by blocks."""
    node = linear.node
    product = onnx_ir.node(
        _PRODUCT,
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
    """Replace a lookup by the operator that looks up rows of blocks."""
    numbers = constant_tensor(packed.numbers).numpy().reshape(packed.outputs, -1)[:, : packed.inputs]
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
    _replace(node, [onnx_ir.node(_LOOKUP, inputs, attributes, domain=ORT_DOMAIN, name=node.name)])
    return same


def _same(name: str, packed: _Packed, shape: tuple[int, ...]) -> dict[str, Same]:
    """The rows as the same bytes as the matrix, if a product uses the matrix and it has no padding; otherwise empty."""
    whole = packed.inputs % packed.blocks.block_size == 0
    return {name: Same(str(packed.numbers.name), shape)} if whole and packed.numbers.uses() else {}


def _replace(node: onnx_ir.Node, new: list[onnx_ir.Node]) -> None:
    old, last = node.outputs[0], new[-1].outputs[0]
    last.name, last.shape, last.type = old.name, old.shape, old.type
    onnx_ir.convenience.replace_nodes_and_values(graph_of(node), node, [node], new, [old], [last])
