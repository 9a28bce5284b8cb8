"""The passes over each graph, in order.

A decoding step of a small language model consists of a few hundred memory-bound products with weights and thousands of
small operations between them. Profiling shows which small operations take time; rewriters of onnxscript fuse
normalisation (with the preceding addition) and GELU into operators of ONNX Runtime, and ours do the rest: ONNX
Runtime's own optimiser does not recognise attention over a cache and rotary embedding as torch's exporter writes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnx_ir.passes import PassBase
from onnx_ir.passes.common import CommonSubexpressionEliminationPass, RemoveUnusedNodesPass, ShapeInferencePass
from onnxscript.optimizer import optimize
from onnxscript.rewriter.ort_fusions.bias_gelu import fuse_bias_gelu
from onnxscript.rewriter.ort_fusions.erfgelu import fuse_erfgelu
from onnxscript.rewriter.ort_fusions.gelu import fuse_gelu
from onnxscript.rewriter.ort_fusions.rms_normalization import fuse_rms_normalization
from onnxscript.rewriter.ort_fusions.skip_normalization import (
    fuse_skip_layer_normalization,
    fuse_skip_rms_normalization,
)

from edge_prompt_export.graphs.onnx.passes.attention import FusedAttention, PlainAttention
from edge_prompt_export.graphs.onnx.passes.base import FunctionPass
from edge_prompt_export.graphs.onnx.passes.domains import DeclareDomains
from edge_prompt_export.graphs.onnx.passes.mask import RemoveMask
from edge_prompt_export.graphs.onnx.passes.products import JoinProducts, PackedAttention
from edge_prompt_export.graphs.onnx.passes.provenance import RecordProvenance
from edge_prompt_export.graphs.onnx.passes.reshapes import RemoveReshapePairs
from edge_prompt_export.graphs.onnx.passes.rotary import FlatRotary, RotaryInAttention


def encoder_passes(metadata: Mapping[str, str]) -> Sequence[PassBase]:
    """The passes over the graph of an encoder, or of its folding.

    Args:
        metadata: The provenance.
    """
    return (RecordProvenance(metadata),)


def language_passes() -> Sequence[PassBase]:
    """The passes over the graph of a language model before it is written in two forms."""
    return (JoinProducts(),)


def plain_passes(metadata: Mapping[str, str]) -> Sequence[PassBase]:
    """The passes over the form with standard operators, after `language_passes`.

    Args:
        metadata: The provenance.
    """
    return (
        PlainAttention(),
        CommonSubexpressionEliminationPass(),
        FunctionPass(optimize),
        RecordProvenance(metadata),
    )


def fused_passes(max_positions: int, metadata: Mapping[str, str]) -> Sequence[PassBase]:
    """The passes over the form with ONNX Runtime's operators, after `language_passes`.

    Args:
        max_positions: The number of positions of the model.
        metadata: The provenance.
    """
    return (
        FusedAttention(),
        ShapeInferencePass(),
        FunctionPass(optimize),
        FunctionPass(fuse_erfgelu),
        FunctionPass(fuse_rms_normalization),
        FunctionPass(fuse_skip_layer_normalization),
        FunctionPass(fuse_skip_rms_normalization),
        FlatRotary(),
        FunctionPass(fuse_gelu),
        FunctionPass(fuse_bias_gelu),
        FunctionPass(optimize),
        RemoveReshapePairs(),
        CommonSubexpressionEliminationPass(),
        FunctionPass(optimize),
        RotaryInAttention(max_positions),
        PackedAttention(),
        RemoveUnusedNodesPass(),
        RemoveMask(),
        DeclareDomains(),
        RecordProvenance(metadata),
    )
