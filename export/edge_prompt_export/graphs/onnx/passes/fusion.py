"""Fuse small operations into ONNX Runtime's operators where profiling shows that they take time.

A decoding step of a small language model consists of a few hundred memory-bound products with weights and thousands of
small operations between them. Rewriters of onnxscript find normalisation (with the preceding addition), rotary
embedding and GELU. ONNX Runtime's own optimiser does not recognise them in the form that torch's exporter writes.
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
    """Fuse operations in place. Apart from rounding, the graph's outputs stay the same.

    Args:
        model: A causal language model whose attention is in the fused form.
        max_positions: The number of positions of the model.
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
    pattern.RewriteRuleSet([pattern.RewriteRule(_two_reshapes, _identity, _keeps_shape)]).apply_to_model(model)
    CommonSubexpressionEliminationPass()(model)
    optimize(model)
    rotate_within_attention(model, max_positions)
    attend_to_joined(model)
    RemoveUnusedNodesPass()(model)
    for value in [value for value in model.graph.inputs if value.name == "attention_mask" and not value.uses()]:
        model.graph.inputs.remove(value)
    model.opset_imports[ORT_DOMAIN] = 1


def _two_reshapes(op: Any, x: Any, first: Any, second: Any) -> Any:
    """Two reshapes that split heads and join them again, which is a no-op between two fused operators."""
    return op.Reshape(op.Reshape(x, first), second, _outputs=["back"])


def _keeps_shape(_context: Any, x: onnx_ir.Value, back: onnx_ir.Value, **_: Any) -> bool:
    return x.shape is not None and x.shape == back.shape


def _identity(op: Any, x: Any, **_: Any) -> Any:
    return op.Identity(x)
