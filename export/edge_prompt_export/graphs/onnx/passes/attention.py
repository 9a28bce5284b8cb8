"""Rewrite the placeholder of attention over a cache in one of two forms.

The plain form uses standard operators, for any consumer of the file. The fused form is ONNX Runtime's
`GroupQueryAttention`. It appends to the cache in place, so the cache is not copied at every step, and it applies the
mask itself: https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir
from onnxscript.rewriter import pattern

from edge_prompt.formats.kv_cache_names import SHARED_INPUTS
from edge_prompt_export.conditioning.onnx_attention import DOMAIN, OPERATOR
from edge_prompt_export.graphs.onnx.passes.base import (
    GraphPass,
    broken,
    graph_input,
    graph_of,
    input_of,
    refused,
    shape_of,
)

ORT_DOMAIN = "com.microsoft"
ORT_ATTENTION = "GroupQueryAttention"

_INPUTS, _OUTPUTS = 6, 3
_ATTRIBUTES = frozenset({"num_heads", "kv_num_heads", "head_dim", "scale", "softcap", "local_window_size"})
_SIZES_OF_SHARED = {SHARED_INPUTS[0]: ["batch"], SHARED_INPUTS[1]: []}


class _AttentionPass(GraphPass):
    """Rewrites every placeholder, whose inputs and attributes it checks before."""

    def requires(self, model: onnx_ir.Model) -> None:
        """Every placeholder has all inputs, outputs and attributes, and queries with four axes.

        Raises:
            GraphPreconditionError: One has not.
        """
        for node in placeholders(model):
            if len(node.inputs) != _INPUTS or len(node.outputs) != _OUTPUTS or set(node.attributes) != _ATTRIBUTES:
                raise refused(
                    self,
                    f"{OPERATOR} with {len(node.inputs)} inputs and the attributes {sorted(node.attributes)}",
                    f"{_INPUTS} inputs, {_OUTPUTS} outputs and the attributes {sorted(_ATTRIBUTES)}",
                )
            if len(shape_of(input_of(node, 0))) != 4:
                raise refused(self, f"queries of shape {input_of(node, 0).shape}", "[batch, heads, sequence, head_dim]")

    def ensures(self, model: onnx_ir.Model) -> None:
        """No placeholder is left.

        Raises:
            GraphPostconditionError: One is left.
        """
        left = [node.name for node in placeholders(model)]
        if left:
            raise broken(self, f"{OPERATOR} {', '.join(map(str, left))}", "none")


class PlainAttention(_AttentionPass):
    """Rewrites attention with standard operators."""

    def rewrite(self, model: onnx_ir.Model) -> bool:
        """See `GraphPass.rewrite`."""
        return pattern.RewriteRuleSet([_Plain().as_rule()]).apply_to_model(model) > 0


class FusedAttention(_AttentionPass):
    """Rewrites attention with ONNX Runtime's operator; the graph then takes lengths instead of a mask."""

    def requires(self, model: onnx_ir.Model) -> None:
        """See `_AttentionPass.requires`; the graph does not take lengths yet.

        Raises:
            GraphPreconditionError: A placeholder is incomplete, or the graph takes lengths already.
        """
        super().requires(model)
        taken = [name for name in SHARED_INPUTS if graph_input(model, name) is not None]
        if taken:
            raise refused(self, f"the inputs {', '.join(taken)}", "a graph that takes a mask")

    def rewrite(self, model: onnx_ir.Model) -> bool:
        """See `GraphPass.rewrite`."""
        first, second = (
            onnx_ir.Value(name=name, shape=onnx_ir.Shape(sizes), type=onnx_ir.TensorType(onnx_ir.DataType.INT32))
            for name, sizes in _SIZES_OF_SHARED.items()
        )
        model.graph.inputs.extend((first, second))
        pattern.RewriteRuleSet([_Fused((first, second)).as_rule()]).apply_to_model(model)
        model.opset_imports[ORT_DOMAIN] = 1
        return True


def placeholders(model: onnx_ir.Model) -> list[onnx_ir.Node]:
    """The placeholder operations of a graph."""
    return [node for node in model.graph if (node.domain, node.op_type) == (DOMAIN, OPERATOR)]


def ort_attentions(model: onnx_ir.Model) -> list[onnx_ir.Node]:
    """The nodes of a graph that are ONNX Runtime's attention."""
    return [node for node in model.graph if (node.domain, node.op_type) == (ORT_DOMAIN, ORT_ATTENTION)]


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
    onnx_ir.convenience.replace_nodes_and_values(graph_of(node), node, [node], [new], node.outputs, new.outputs)


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
        batch, heads, sequence, head_dim = shape_of(query)
        answer.shape = onnx_ir.Shape([batch, sequence, heads * head_dim])
        apart = op.Reshape(answer, _constant(op, np.array([0, 0, is_["num_heads"], is_["head_dim"]], np.int64)))
        return op.Transpose(apart, perm=[0, 2, 1, 3]), present_key, present_value


def _attributes(out: onnx_ir.Value) -> dict[str, Any]:
    node = out.producer()
    return {} if node is None else {name: attribute.value for name, attribute in node.attributes.items()}


def _constant(op: Any, value: Any) -> Any:
    return op.Constant(value=onnx_ir.tensor(np.asarray(value)))
