"""Write the ONNX graphs of a causal language model: with standard operators, and with ONNX Runtime's operators.

`model.onnx` is for any consumer of ONNX. The runtime opens `model_onnxruntime.onnx`, whose past and present
key-values may share a buffer. Both graphs read their weights from one file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx_ir
from onnx_ir.passes.common import CommonSubexpressionEliminationPass
from onnxscript.optimizer import optimize

from edge_prompt_export.backbone.conditioned_module import ConditionedModule
from edge_prompt_export.conditioning.onnx_attention import write_out_fused, write_out_plain
from edge_prompt_export.graphs.fold import GraphFiles
from edge_prompt_export.graphs.onnx.export import (
    ONNX_DATA_FILE,
    ONNX_FILE,
    add_weights,
    onnx_model,
    share_weights,
    tidy,
    write_onnx,
)
from edge_prompt_export.graphs.onnx.passes.fusion import fuse
from edge_prompt_export.graphs.onnx.passes.products import join_products
from edge_prompt_export.modalities.language.network import ConditionedCausalLM

ONNX_FUSED_FILE = "model_onnxruntime.onnx"


def write_onnx_of(module: ConditionedModule, folder: Path, metadata: Mapping[str, str]) -> GraphFiles:
    """Write the graphs of a module of any modality into `folder`; see `write_onnx`."""
    if isinstance(module, ConditionedCausalLM):
        return write_language(module, folder, metadata)
    return write_onnx(module, folder, metadata)


def write_language(module: ConditionedCausalLM, folder: Path, metadata: Mapping[str, str]) -> GraphFiles:
    """Write both graphs of a causal language model; the runtime opens the one with ONNX Runtime's operators.

    Args:
        module: The conditioned module.
        folder: The folder to write to.
        metadata: Provenance for the files' metadata.

    Returns:
        The files written.

    Raises:
        UnsupportedArchitectureError: The exporter does not support the network.
    """
    plain = onnx_model(module, module.trace_inputs(), module.dynamic_axes(), module.output_names)
    join_products(plain)
    fused = plain.clone()
    write_out_plain(plain)
    CommonSubexpressionEliminationPass()(plain)
    optimize(plain)
    tidy(plain, metadata)
    onnx_ir.save(plain, folder / ONNX_FILE, external_data=ONNX_DATA_FILE)
    write_out_fused(fused)
    fuse(fused, module.max_positions)
    tidy(fused, metadata)
    share_weights(fused, onnx_ir.load(folder / ONNX_FILE), folder)
    add_weights(fused, folder / ONNX_DATA_FILE)
    onnx_ir.save(fused, folder / ONNX_FUSED_FILE)
    return GraphFiles((ONNX_FUSED_FILE, ONNX_DATA_FILE), others=(ONNX_FILE,))
