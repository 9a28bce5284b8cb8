"""Rotary embedding with ONNX Runtime's operators: inside attention if it can be a table, otherwise before attention."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir
import onnxruntime
from numpy.typing import NDArray
from onnxscript.rewriter import pattern

from edge_prompt_export.conditioning.onnx_attention import ORT_DOMAIN, replace_attention
from edge_prompt_export.graphs.onnx.values import constant_of

_POSITIONS = "position_ids"
_QUERY, _KEY = 0, 1
_SWAP_HEADS_AND_SEQUENCE = [0, 2, 1, 3]
_ROUNDING = 1e-6

_HEAD_DIM_FACTOR, _HALF_FACTOR = 16, 8
"""Attention can rotate only if the head size and the table width are multiples of these."""

Float32 = NDArray[np.float32]


def flatten_rotary(model: onnx_ir.Model) -> None:
    """Replace rotary embedding by one operator, without the transpositions around it.

    Args:
        model: A causal language model, changed in place.
    """
    flat = _FlatRotary(_positions(model))
    rule = pattern.RewriteRule(flat.pattern, flat.rewrite, _is_cut_in_the_middle)
    pattern.RewriteRuleSet([rule], commute=True).apply_to_model(model)


def rotate_within_attention(model: onnx_ir.Model, max_positions: int) -> None:
    """Move rotary embedding into attention, which reads cosines and sines from tables by position.

    Args:
        model: A causal language model with ONNX Runtime's attention and rotary embedding, changed in place.
        max_positions: The number of positions of the model, which is the length of the tables.
    """
    tables: dict[onnx_ir.Value, onnx_ir.Value | None] = {}
    for node in [node for node in model.graph if node.op_type == "GroupQueryAttention"]:
        query, key = (_rotary(node.inputs[place]) for place in (_QUERY, _KEY))
        if query is None or key is None or query.inputs[2:] != key.inputs[2:]:
            continue
        if query.attributes["interleaved"] != key.attributes["interleaved"]:
            continue
        if _head_dim(node) % _HEAD_DIM_FACTOR:
            continue
        found = [_table(model, tables, value, max_positions) for value in query.inputs[2:]]
        if None in found:
            continue
        inputs = [query.inputs[0], key.inputs[0], *node.inputs[2:7], *found, _positions(model)]
        interleaved = query.attributes["interleaved"].value
        replace_attention(node, inputs, {"do_rotary": 1, "rotary_interleaved": interleaved})


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


def _rotary(value: onnx_ir.Value | None) -> onnx_ir.Node | None:
    """The rotary-embedding node that produces a value; None if it is produced by another node."""
    node = value.producer() if value is not None else None
    return node if node is not None and node.op_type == "RotaryEmbedding" and node.domain == ORT_DOMAIN else None


def _head_dim(attention: onnx_ir.Node) -> int:
    past_key = attention.inputs[3]
    assert past_key is not None  # noqa: S101 - it is an input of the graph
    assert past_key.shape is not None  # noqa: S101 - and has one
    head_dim = past_key.shape[3]
    assert isinstance(head_dim, int)  # noqa: S101 - only lengths are dynamic
    return head_dim


def _table(
    model: onnx_ir.Model,
    tables: dict[onnx_ir.Value, onnx_ir.Value | None],
    value: onnx_ir.Value | None,
    max_positions: int,
) -> onnx_ir.Value | None:
    """The cosines or sines that the graph computes from positions, as a constant table; None if that is impossible."""
    assert value is not None  # noqa: S101 - the operator has all its inputs
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


def _positions(model: onnx_ir.Model) -> onnx_ir.Value:
    return next(value for value in model.graph.inputs if value.name == _POSITIONS)


def _ints(op: Any, values: list[int]) -> Any:
    return op.Constant(value=onnx_ir.tensor(np.array(values, np.int64)))
