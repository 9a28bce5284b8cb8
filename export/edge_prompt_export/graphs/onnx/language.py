"""Write the ONNX graphs of a causal language model: with standard operators, and with ONNX Runtime's operators.

`model.onnx` is for any consumer of ONNX. The runtime opens `model_onnxruntime.onnx`, whose past and present
key-values may share a buffer. Both graphs read their weights from one file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import onnx_ir

from edge_prompt_export.backbone.conditioned_module import ConditionedModule
from edge_prompt_export.graphs.fold import GraphFiles
from edge_prompt_export.graphs.onnx.export import (
    ONNX_DATA_FILE,
    ONNX_FILE,
    add_weights,
    onnx_model,
    share_weights,
    write_onnx,
)
from edge_prompt_export.graphs.onnx.passes.base import run_passes
from edge_prompt_export.graphs.onnx.pipeline import fused_passes, language_passes, plain_passes
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
        UnsupportedArchitectureError: The exporter or a graph pass does not support the network.
    """
    plain = onnx_model(module, module.trace_inputs(), module.dynamic_axes(), module.output_names)
    run_passes(plain, language_passes())
    fused = plain.clone()
    run_passes(plain, plain_passes(metadata))
    onnx_ir.save(plain, folder / ONNX_FILE, external_data=ONNX_DATA_FILE)
    run_passes(fused, fused_passes(module.max_positions, metadata))
    share_weights(fused, onnx_ir.load(folder / ONNX_FILE), folder)
    add_weights(fused, folder / ONNX_DATA_FILE)
    onnx_ir.save(fused, folder / ONNX_FUSED_FILE)
    return GraphFiles((ONNX_FUSED_FILE, ONNX_DATA_FILE), others=(ONNX_FILE,))
