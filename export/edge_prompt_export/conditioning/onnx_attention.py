"""Attention over a cache in ONNX: a placeholder operation during export, which is then rewritten in one of two forms.

The plain form uses standard operators, for any consumer of the file. The fused form is ONNX Runtime's
`GroupQueryAttention`. It appends to the cache in place, so the cache is not copied at every step, and it applies the
mask itself: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir
import torch
from onnxscript.rewriter import pattern
from torch import Tensor

from edge_prompt.formats.kv_cache_names import SHARED_INPUTS

DOMAIN = "edge_prompt"
ORT_DOMAIN = "com.microsoft"

_EVERYTHING = -1
_SIZES_OF_SHARED = {SHARED_INPUTS[0]: ["batch"], SHARED_INPUTS[1]: []}


def attend_in_onnx(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    past: tuple[Tensor, Tensor],
    bias: Tensor,
    *,
    scaling: float | None,
    sliding_window: int | None,
    softcap: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Attention over past and new tokens as one placeholder operation, which ONNX itself does not define.

    Args:
        query: `[batch, num_heads, new, head_dim]`.
        key: `[batch, num_kv_heads, new, head_dim]`.
        value: `[batch, num_kv_heads, new, head_dim]`.
        past: Past keys and values, `[batch, num_kv_heads, past, head_dim]` each.
        bias: `[batch, 1, new, past + new]`; the fused form does not read it.
        scaling: Factor on the scores; None means `head_dim ** -0.5`.
        sliding_window: Number of positions that a token attends to, itself included; None means all.
        softcap: Soft cap on the scores before the bias is added, or None.

    Returns:
        `[batch, num_heads, new, head_dim]`, and the keys and values, past and new.
    """
    batch, kv_heads, new, head_dim = key.shape
    present = (batch, kv_heads, past[0].shape[2] + new, head_dim)
    out, present_key, present_value = torch.onnx.ops.symbolic_multi_out(
        f"{DOMAIN}::CachedAttention",
        (query, key, value, *past, bias),
        {
            "num_heads": query.shape[1],
            "kv_num_heads": kv_heads,
            "head_dim": head_dim,
            "scale": float(head_dim**-0.5 if scaling is None else scaling),
            "softcap": float(softcap or 0),
            "local_window_size": sliding_window or _EVERYTHING,
        },
        dtypes=(query.dtype, key.dtype, value.dtype),
        shapes=(query.shape, present, present),
        version=1,
    )
    return out, present_key, present_value


class _Form(pattern.RewriteRuleClassBase):
    """A form that the placeholder operation is rewritten in."""

    def as_rule(self) -> pattern.RewriteRule:
        """The form as a rewrite rule."""
        return pattern.RewriteRule(self.pattern, self.rewrite)

    def pattern(self, op: Any, query: Any, key: Any, value: Any, past_key: Any, past_value: Any, bias: Any) -> Any:
        return op.CachedAttention(
            query,
            key,
            value,
            past_key,
            past_value,
            bias,
            _domain=DOMAIN,
            _allow_other_attributes=True,
            _outputs=["out", "present_key", "present_value"],
        )


class _Plain(_Form):
    """Matrix products and a softmax.

    The queries of a group become additional rows of one head, so that keys and values need not be repeated, which
    would copy the whole cache at every step.
    """

    def rewrite(
        self, op: Any, query: Any, key: Any, value: Any, past_key: Any, past_value: Any, bias: Any, out: Any, **_: Any
    ) -> tuple[Any, Any, Any]:
        is_ = _attributes(out)
        groups = is_["num_heads"] // is_["kv_num_heads"]
        present_key, present_value = op.Concat(past_key, key, axis=2), op.Concat(past_value, value, axis=2)
        rows = op.Mul(query, _constant(op, np.float32(is_["scale"])))
        if groups > 1:
            rows = op.Reshape(rows, _constant(op, np.array([0, is_["kv_num_heads"], -1, is_["head_dim"]], np.int64)))
            bias = op.Concat(*[bias] * groups, axis=2)
        scores = op.MatMul(rows, op.Transpose(present_key, perm=[0, 1, 3, 2]))
        if is_["softcap"]:
            bound = _constant(op, np.float32(is_["softcap"]))
            scores = op.Mul(op.Tanh(op.Div(scores, bound)), bound)
        answer = op.MatMul(op.Softmax(op.Add(scores, bias), axis=-1), present_value)
        if groups > 1:
            answer = op.Reshape(answer, _constant(op, np.array([0, is_["num_heads"], -1, is_["head_dim"]], np.int64)))
        return answer, present_key, present_value


class _Fused(_Form):
    """ONNX Runtime's operator.

    Args:
        lengths: The two inputs of `edge_prompt.formats.kv_cache_names.SHARED_INPUTS`.
    """

    def __init__(self, lengths: tuple[onnx_ir.Value, onnx_ir.Value]) -> None:
        super().__init__()
        self._lengths = lengths

    def rewrite(
        self, op: Any, query: Any, key: Any, value: Any, past_key: Any, past_value: Any, out: Any, **_: Any
    ) -> tuple[Any, Any, Any]:
        is_ = _attributes(out)
        counts = (is_["num_heads"], is_["kv_num_heads"], is_["kv_num_heads"])
        flat = [
            op.Reshape(
                op.Transpose(part, perm=[0, 2, 1, 3]),
                _constant(op, np.array([0, 0, count * is_["head_dim"]], np.int64)),
            )
            for part, count in zip((query, key, value), counts, strict=True)
        ]
        answer, present_key, present_value = op.GroupQueryAttention(
            *flat,
            past_key,
            past_value,
            *self._lengths,
            num_heads=is_["num_heads"],
            kv_num_heads=is_["kv_num_heads"],
            scale=is_["scale"],
            softcap=is_["softcap"],
            local_window_size=is_["local_window_size"],
            _domain=ORT_DOMAIN,
            _outputs=3,
        )
        assert query.shape is not None  # noqa: S101 - the exporter gives every value a shape
        batch, heads, sequence, head_dim = query.shape
        answer.shape = onnx_ir.Shape([batch, sequence, heads * head_dim])
        apart = op.Reshape(answer, _constant(op, np.array([0, 0, is_["num_heads"], is_["head_dim"]], np.int64)))
        return op.Transpose(apart, perm=[0, 2, 1, 3]), present_key, present_value


def write_out_plain(model: onnx_ir.Model) -> None:
    """Rewrite attention with standard operators, in place."""
    pattern.RewriteRuleSet([_Plain().as_rule()]).apply_to_model(model)


def write_out_fused(model: onnx_ir.Model) -> None:
    """Rewrite attention with ONNX Runtime's operator, in place; the graph then takes lengths instead of a mask."""
    first, second = (
        onnx_ir.Value(name=name, shape=onnx_ir.Shape(sizes), type=onnx_ir.TensorType(onnx_ir.DataType.INT32))
        for name, sizes in _SIZES_OF_SHARED.items()
    )
    model.graph.inputs.extend((first, second))
    pattern.RewriteRuleSet([_Fused((first, second)).as_rule()]).apply_to_model(model)
    model.opset_imports[ORT_DOMAIN] = 1


def replace_attention(
    node: onnx_ir.Node, inputs: Sequence[onnx_ir.Value | None], attributes: Mapping[str, Any]
) -> None:
    """Replace `node` by ONNX Runtime's attention with other inputs and additional attributes."""
    kept = {name: attribute.value for name, attribute in node.attributes.items()}
    new = onnx_ir.node(
        node.op_type, inputs, {**kept, **attributes}, num_outputs=len(node.outputs), domain=ORT_DOMAIN, name=node.name
    )
    for output, was in zip(new.outputs, node.outputs, strict=True):
        output.name, output.shape, output.type = was.name, was.shape, was.type
    assert node.graph is not None  # noqa: S101 - it is in one
    onnx_ir.convenience.replace_nodes_and_values(node.graph, node, [node], [new], node.outputs, new.outputs)


def _attributes(out: onnx_ir.Value) -> dict[str, Any]:
    node = out.producer()
    assert node is not None  # noqa: S101 - it was matched
    return {name: attribute.value for name, attribute in node.attributes.items()}


def _constant(op: Any, value: Any) -> Any:
    return op.Constant(value=onnx_ir.tensor(np.asarray(value)))
