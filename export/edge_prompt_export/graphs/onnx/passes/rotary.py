"""Rotary embedding with ONNX Runtime's operators: inside attention if it can be a table, otherwise before attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir
import onnxruntime
from numpy.typing import NDArray
from onnxscript.rewriter import pattern

from edge_prompt_export.graphs.onnx.passes.attention import ORT_DOMAIN, ort_attentions, replace_attention
from edge_prompt_export.graphs.onnx.passes.base import (
    GraphPass,
    broken,
    constant_tensor,
    graph_input,
    input_of,
    refused,
    shape_of,
)
from edge_prompt_export.graphs.onnx.values import constant_of

_POSITIONS = "position_ids"
_QUERY, _KEY, _PAST_KEY = 0, 1, 3
_TABLES, _ATTENTION_TABLES = (2, 3), (7, 8)
_SWAP_HEADS_AND_SEQUENCE = [0, 2, 1, 3]
_ROUNDING = 1e-6

_HEAD_DIM_FACTOR, _HALF_FACTOR = 16, 8
"""Attention can rotate only if the head size and the table width are multiples of these."""

Float32 = NDArray[np.float32]


class FlatRotary(GraphPass):
    """Replaces rotary embedding by one operator, without the transpositions around it."""

    def requires(self, model: onnx_ir.Model) -> None:
        """The graph takes positions `[batch, sequence]`.

        Raises:
            GraphPreconditionError: It does not.
        """
        _require_positions(self, model)

    def rewrite(self, model: onnx_ir.Model) -> bool:
        """See `GraphPass.rewrite`."""
        flat = _FlatRotary(_require_positions(self, model))
        rule = pattern.RewriteRule(flat.pattern, flat.rewrite, _is_cut_in_the_middle)
        return pattern.RewriteRuleSet([rule], commute=True).apply_to_model(model) > 0

    def ensures(self, model: onnx_ir.Model) -> None:
        """Every rotary embedding knows its number of heads, since it reads them in one axis.

        Raises:
            GraphPostconditionError: One does not.
        """
        for node in model.graph:
            if _is_rotary(node) and node.attributes.get_int("num_heads", 0) < 1:
                raise broken(self, f"{node.name} without a number of heads", "at least 1")


class RotaryInAttention(GraphPass):
    """Moves rotary embedding into ONNX Runtime's attention, which reads cosines and sines from tables by position.

    Args:
        max_positions: The number of positions of the model, which is the length of the tables.
    """

    def __init__(self, max_positions: int) -> None:
        super().__init__()
        self._max_positions = max_positions

    def requires(self, model: onnx_ir.Model) -> None:
        """The graph takes positions, and the past keys of every attention have a head size.

        Raises:
            GraphPreconditionError: It does not, or they have not.
        """
        _require_positions(self, model)
        if self._max_positions < 1:
            raise refused(self, f"{self._max_positions} positions", "at least 1")
        for node in ort_attentions(model):
            if not isinstance(_head_dim(node), int):
                raise refused(self, f"{node.name} with the head size {_head_dim(node)}", "a fixed head size")

    def rewrite(self, model: onnx_ir.Model) -> bool:
        """See `GraphPass.rewrite`; attention that cannot read its rotation from a table stays as it is."""
        tables: dict[onnx_ir.Value, onnx_ir.Value | None] = {}
        modified = False
        for node in ort_attentions(model):
            rotation = _shared_rotation(node)
            if rotation is None:
                continue
            query, key = rotation
            found = [_table(model, tables, input_of(query, place), self._max_positions) for place in _TABLES]
            if None in found:
                continue
            positions = _require_positions(self, model)
            inputs = [query.inputs[0], key.inputs[0], *node.inputs[2:7], *found, positions]
            interleaved = query.attributes["interleaved"].value
            replace_attention(node, inputs, {"do_rotary": 1, "rotary_interleaved": interleaved})
            modified = True
        return modified

    def ensures(self, model: onnx_ir.Model) -> None:
        """Every attention that rotates has tables with a row for each position.

        Raises:
            GraphPostconditionError: One has not.
        """
        for node in ort_attentions(model):
            if not node.attributes.get_int("do_rotary", 0):
                continue
            lengths = [constant_tensor(input_of(node, place)).shape[0] for place in _ATTENTION_TABLES]
            if lengths != [self._max_positions] * len(lengths):
                raise broken(self, f"{node.name} with tables of {lengths} rows", f"{self._max_positions} rows")


def _shared_rotation(attention: onnx_ir.Node) -> tuple[onnx_ir.Node, onnx_ir.Node] | None:
    """The nodes that rotate queries and keys in the same way; None if attention itself cannot do it."""
    query, key = (_rotary(input_of(attention, place)) for place in (_QUERY, _KEY))
    if query is None or key is None or query.inputs[2:] != key.inputs[2:]:
        return None
    if query.attributes["interleaved"] != key.attributes["interleaved"]:
        return None
    head_dim = _head_dim(attention)
    return None if not isinstance(head_dim, int) or head_dim % _HEAD_DIM_FACTOR else (query, key)


class _FlatRotary(pattern.RewriteRuleClassBase):
    """Rotary embedding of `[batch, sequence, heads * head_dim]`, without a transposition before and after.

    The operator takes a table of cosines and the row of each token in it. The table holds the cosines that the network
    computes for the tokens of the current run, so it is correct for any kind of positions and is not stored.

    Args:
        position_ids: The input of the graph, `[batch, sequence]`.
    """

    def __init__(self, position_ids: onnx_ir.Value) -> None:
        super().__init__()
        self._position_ids = position_ids

    def pattern(self, op: Any, x: Any, cos: Any, sin: Any, middle: Any, end: Any, shape: Any) -> Any:
        first, second = op.Slice(x, [0], middle, [3], [1]), op.Slice(x, middle, end, [3], [1])
        rotated = x * cos + op.Concat(op.Neg(second), first, axis=-1) * sin
        return op.Reshape(op.Transpose(rotated, perm=_SWAP_HEADS_AND_SEQUENCE), shape)

    def rewrite(self, op: Any, x: Any, cos: Any, sin: Any, shape: Any, **_: Any) -> Any:
        _, heads, _, head_dim = x.shape
        half = _ints(op, [head_dim // 2])
        tables = [
            op.Reshape(op.Slice(table, _ints(op, [0]), half, _ints(op, [3])), _ints(op, [-1, head_dim // 2]))
            for table in (cos, sin)
        ]
        zero, one = (op.Constant(value=onnx_ir.tensor(np.int64(number))) for number in (0, 1))
        count = op.Range(zero, op.Size(self._position_ids), one)
        places = op.Reshape(count, op.Shape(self._position_ids))
        flat = op.Reshape(_sequence_first(op, x), shape)
        return op.RotaryEmbedding(flat, places, *tables, num_heads=heads, interleaved=0, _domain=ORT_DOMAIN)


def _is_cut_in_the_middle(_context: Any, x: onnx_ir.Value, middle: onnx_ir.Value, **_: Any) -> bool:
    if x.shape is None or not isinstance(x.shape[1], int) or not isinstance(x.shape[3], int):
        return False
    cut = onnx_ir.convenience.get_const_tensor(middle)
    return cut is not None and bool(cut.numpy().tolist() == [x.shape[3] // 2])


def _sequence_first(op: Any, x: onnx_ir.Value) -> Any:
    """`x [batch, heads, sequence, head_dim]` as `[batch, sequence, heads, head_dim]`, without transposing twice.

    If queries and keys are normalised per head, the normalisation moves before the transposition.
    """
    node = x.producer()
    norm = node if node is not None and node.op_type == "SimplifiedLayerNormalization" else None
    heads = norm.inputs[0] if norm is not None else x
    before = heads.producer() if heads is not None else None
    if (
        before is None
        or before.op_type != "Transpose"
        or list(before.attributes["perm"].value) != _SWAP_HEADS_AND_SEQUENCE
    ):
        return op.Transpose(x, perm=_SWAP_HEADS_AND_SEQUENCE)
    if norm is None:
        return before.inputs[0]
    attributes = {name: attribute.value for name, attribute in norm.attributes.items()}
    return op.SimplifiedLayerNormalization(before.inputs[0], *norm.inputs[1:], **attributes)


def _is_rotary(node: onnx_ir.Node) -> bool:
    return node.op_type == "RotaryEmbedding" and node.domain == ORT_DOMAIN


def _rotary(value: onnx_ir.Value) -> onnx_ir.Node | None:
    """The rotary-embedding node that produces a value; None if it is produced by another node."""
    node = value.producer()
    return node if node is not None and _is_rotary(node) else None


def _head_dim(attention: onnx_ir.Node) -> int | onnx_ir.SymbolicDim:
    return shape_of(input_of(attention, _PAST_KEY))[-1]


def _table(
    model: onnx_ir.Model, tables: dict[onnx_ir.Value, onnx_ir.Value | None], value: onnx_ir.Value, max_positions: int
) -> onnx_ir.Value | None:
    """The cosines or sines that the graph computes from positions, as a constant table; None if that is impossible."""
    if value not in tables:
        array = _by_position(model, value, max_positions)
        tables[value] = None if array is None else constant_of(model.graph, f"{value.name}_by_position", array)
    return tables[value]


def _by_position(model: onnx_ir.Model, value: onnx_ir.Value, max_positions: int) -> Float32 | None:
    """The table `[max_positions, rotary_dim / 2]`; None if a row depends on more than its own position.

    That is the case for networks that use other frequencies for long requests than for short ones.
    """
    try:
        graph = onnx_ir.convenience.extract(model.graph, [_POSITIONS], [str(value.name)])
    except ValueError:  # the value also depends on other inputs
        return None
    steps = onnx_ir.serde.serialize_model(onnx_ir.Model(graph, ir_version=model.ir_version)).SerializeToString()
    session = onnxruntime.InferenceSession(steps, providers=["CPUExecutionProvider"])

    def rows(positions: NDArray[np.int64]) -> Float32:
        found: Float32 = session.run(None, {_POSITIONS: positions[None]})[0]
        return found

    every = np.arange(max_positions)
    table = rows(every)
    if table.shape[1] % _HALF_FACTOR:
        return None
    alone = all(
        np.allclose(rows(part), table[part], rtol=0, atol=_ROUNDING) for part in (every[:1], every[1:3], every[-1:])
    )
    return table if alone else None


def _require_positions(graph_pass: GraphPass, model: onnx_ir.Model) -> onnx_ir.Value:
    positions = graph_input(model, _POSITIONS)
    if positions is None or len(shape_of(positions)) != 2:
        raise refused(
            graph_pass, f"the inputs {[value.name for value in model.graph.inputs]}", f"{_POSITIONS} [batch, sequence]"
        )
    return positions


def _ints(op: Any, values: list[int]) -> Any:
    return op.Constant(value=onnx_ir.tensor(np.array(values, np.int64)))
