"""Quantise an OpenVINO IR with NNCF's post-training quantisation."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path

import nncf
import openvino
from nncf.quantization.advanced_parameters import AdvancedSmoothQuantParameters

from edge_prompt_export.base.library_output import suppress_library_output
from edge_prompt_runtime.engines.base import Arrays

OPENVINO_INT8_FILE = "openvino_int8.xml"

SMOOTHING = 0.7
"""Share of the activations' range that moves into the weights; with NNCF's default of 0.95, features differ by half as
much again."""

FULL_PRECISION = ("ScaledDotProductAttention", "Convolution")
"""Operations that prompts (prefixes and pixel prompts) enter directly, with ranges that differ from the calibration
data."""


def quantize_graph(
    graph_file: Path, weights_file: Path | None, folder: Path, feeds: Sequence[Arrays]
) -> tuple[str, ...]:
    """Write the graph in int8.

    Args:
        graph_file: The IR in fp32.
        weights_file: Its weights, if they are not in the default file.
        folder: The folder to write to.
        feeds: Batches of all inputs by name to measure ranges on.

    Returns:
        The names of the files written; the first is the one to open.
    """
    core = openvino.Core()
    model = core.read_model(graph_file) if weights_file is None else core.read_model(graph_file, weights_file)
    nncf.set_log_level(logging.ERROR)
    with suppress_library_output(), redirect_stdout(sys.stderr):  # NNCF prints progress bars
        quantized = nncf.quantize(
            model,
            nncf.Dataset([dict(batch) for batch in feeds]),
            subset_size=len(feeds),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(types=list(FULL_PRECISION), validate=False),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                smooth_quant_alphas=AdvancedSmoothQuantParameters(matmul=SMOOTHING)
            ),
        )
    openvino.save_model(quantized, folder / OPENVINO_INT8_FILE, compress_to_fp16=False)
    return OPENVINO_INT8_FILE, Path(OPENVINO_INT8_FILE).with_suffix(".bin").name
