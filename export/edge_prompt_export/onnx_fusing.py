"""Fusing the small steps of a network into ONNX Runtime's operators, where a profile shows that they cost.

A step of a small language model is some hundred products with weights, bound by memory, and thousands of small
operations between them. Rewriters of onnxscript find normalisation (with the sum before it), rotary embedding and GELU;
ONNX Runtime's own optimiser does not know them in the form that torch's exporter gives them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir
from onnx_ir.passes.common import CommonSubexpressionEliminationPass, ShapeInferencePass
from onnxscript.optimizer import optimize
from onnxscript.rewriter import pattern
from onnxscript.rewriter.ort_fusions.bias_gelu import fuse_bias_gelu
from onnxscript.rewriter.ort_fusions.erfgelu import fuse_erfgelu
from onnxscript.rewriter.ort_fusions.gelu import fuse_gelu
from onnxscript.rewriter.ort_fusions.rms_normalization import fuse_rms_normalization
from onnxscript.rewriter.ort_fusions.rotary_embedding import fuse_rotary_embedding
from onnxscript.rewriter.ort_fusions.skip_normalization import (
    fuse_skip_layer_normalization,
    fuse_skip_rms_normalization,
)

from edge_prompt_export.onnx_attention import ORT_DOMAIN

_FUSION_DOMAIN = "ai.onnxruntime._fusion"


def fuse(model: onnx_ir.Model) -> None:
    """Fuse what can be, in place. The graph computes the same, but for rounding.

    Args:
        model: A causal language model whose attention is written out in its fused form.
    """
    ShapeInferencePass()(model)
    optimize(model)
    for rewrite in (
        fuse_erfgelu,
        fuse_rms_normalization,
        fuse_skip_layer_normalization,
        fuse_skip_rms_normalization,
        fuse_rotary_embedding,
    ):
        rewrite(model)
    places = next(value for value in model.graph.inputs if value.name == "position_ids")
    flat = _FlatRotary(places)
    pattern.RewriteRuleSet([pattern.RewriteRule(flat.pattern, flat.rewrite)]).apply_to_model(model)
    for rewrite in (fuse_gelu, fuse_bias_gelu):
        rewrite(model)
    optimize(model)
    pattern.RewriteRuleSet([pattern.RewriteRule(_there_and_back, _as_it_was, _is_as_it_was)]).apply_to_model(model)
    CommonSubexpressionEliminationPass()(model)
    optimize(model)
    for value in [value for value in model.graph.inputs if value.name == "attention_mask" and not value.uses()]:
        model.graph.inputs.remove(value)
    model.opset_imports[ORT_DOMAIN] = 1


class _FlatRotary(pattern.RewriteRuleClassBase):
    """Rotary embedding of `[batch, sequence, heads * head_dim]`, without a transposition before and after.

    The operator takes a table of cosines and the place of each token in it. The table is that of this run's own tokens,
    which the network has computed already: so it is right for every kind of positions, and none is stored.

    Args:
        position_ids: The input of the graph, `[batch, sequence]`.
    """

    def __init__(self, position_ids: onnx_ir.Value) -> None:
        super().__init__()
        self._position_ids = position_ids

    def pattern(self, op: Any, x: Any, cos: Any, sin: Any, shape: Any) -> Any:
        heads_first = op.Transpose(x, perm=[0, 2, 1, 3])
        rotated = op.RotaryEmbedding(
            heads_first, cos, sin, _domain=_FUSION_DOMAIN, _allow_other_attributes=True, _outputs=["rotated"]
        )
        return op.Reshape(op.Transpose(rotated, perm=[0, 2, 1, 3]), shape)

    def rewrite(self, op: Any, x: Any, cos: Any, sin: Any, shape: Any, rotated: Any, **_: Any) -> Any:
        head_dim = rotated.shape[3]
        half = _ints(op, [head_dim // 2])
        tables = [
            op.Reshape(op.Slice(table, _ints(op, [0]), half, _ints(op, [3])), _ints(op, [-1, head_dim // 2]))
            for table in (cos, sin)
        ]
        zero, one = (op.Constant(value=onnx_ir.tensor(np.int64(number))) for number in (0, 1))
        count = op.Range(zero, op.Size(self._position_ids), one)
        places = op.Reshape(count, op.Shape(self._position_ids))
        heads = rotated.producer().attributes["num_heads"].value
        return op.RotaryEmbedding(
            op.Reshape(x, shape), places, *tables, num_heads=heads, interleaved=0, _domain=ORT_DOMAIN
        )


def _there_and_back(op: Any, x: Any, first: Any, second: Any) -> Any:
    """Heads that are taken apart and joined again: nothing is left of them between two fused operators."""
    return op.Reshape(op.Reshape(x, first), second, _outputs=["back"])


def _is_as_it_was(_context: Any, x: onnx_ir.Value, back: onnx_ir.Value, **_: Any) -> bool:
    return x.shape is not None and x.shape == back.shape


def _as_it_was(op: Any, x: Any, **_: Any) -> Any:
    return op.Identity(x)


def _ints(op: Any, values: list[int]) -> Any:
    return op.Constant(value=onnx_ir.tensor(np.array(values, np.int64)))
