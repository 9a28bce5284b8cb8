"""Fusing the small steps of a network into ONNX Runtime's operators, where a profile shows that they cost.

A step of a small language model is some hundred products with weights, bound by memory, and thousands of small
operations between them. Rewriters of onnxscript find normalisation (with the sum before it), rotary embedding and GELU;
ONNX Runtime's own optimiser does not know them in the form that torch's exporter gives them.
"""

from __future__ import annotations

from typing import Any

import onnx_ir
from onnx_ir.passes.common import CommonSubexpressionEliminationPass, RemoveUnusedNodesPass, ShapeInferencePass
from onnxscript.optimizer import optimize
from onnxscript.rewriter import pattern
from onnxscript.rewriter.ort_fusions.bias_gelu import fuse_bias_gelu
from onnxscript.rewriter.ort_fusions.erfgelu import fuse_erfgelu
from onnxscript.rewriter.ort_fusions.gelu import fuse_gelu
from onnxscript.rewriter.ort_fusions.rms_normalization import fuse_rms_normalization
from onnxscript.rewriter.ort_fusions.skip_normalization import (
    fuse_skip_layer_normalization,
    fuse_skip_rms_normalization,
)

from edge_prompt_export.conditioning.onnx_attention import ORT_DOMAIN
from edge_prompt_export.graphs.onnx.passes.products import attend_to_joined
from edge_prompt_export.graphs.onnx.passes.rotary import flatten_rotary, rotate_within_attention


def fuse(model: onnx_ir.Model, max_positions: int) -> None:
    """Fuse what can be, in place. The graph computes the same, but for rounding.

    Args:
        model: A causal language model whose attention is written out in its fused form.
        max_positions: How many positions it has.
    """
    ShapeInferencePass()(model)
    optimize(model)
    for rewrite in (
        fuse_erfgelu,
        fuse_rms_normalization,
        fuse_skip_layer_normalization,
        fuse_skip_rms_normalization,
    ):
        rewrite(model)
    flatten_rotary(model)
    for rewrite in (fuse_gelu, fuse_bias_gelu):
        rewrite(model)
    optimize(model)
    pattern.RewriteRuleSet([pattern.RewriteRule(_there_and_back, _as_it_was, _is_as_it_was)]).apply_to_model(model)
    CommonSubexpressionEliminationPass()(model)
    optimize(model)
    rotate_within_attention(model, max_positions)
    attend_to_joined(model)
    RemoveUnusedNodesPass()(model)
    for value in [value for value in model.graph.inputs if value.name == "attention_mask" and not value.uses()]:
        model.graph.inputs.remove(value)
    model.opset_imports[ORT_DOMAIN] = 1


def _there_and_back(op: Any, x: Any, first: Any, second: Any) -> Any:
    """Heads that are taken apart and joined again: nothing is left of them between two fused operators."""
    return op.Reshape(op.Reshape(x, first), second, _outputs=["back"])


def _is_as_it_was(_context: Any, x: onnx_ir.Value, back: onnx_ir.Value, **_: Any) -> bool:
    return x.shape is not None and x.shape == back.shape


def _as_it_was(op: Any, x: Any, **_: Any) -> Any:
    return op.Identity(x)
