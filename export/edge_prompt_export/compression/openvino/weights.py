"""Compress the weights of an OpenVINO IR with NNCF; OpenVINO itself stores float16.

A matrix that two operations read, as with tied embeddings and output layer, is stored once, and the looked-up rows are
decompressed from the same numbers. With int4, embeddings and output layers stay in int8.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nncf
import openvino

from edge_prompt_export.base.library_output import suppress_library_output
from edge_prompt_export.compression.precisions import Compressed
from edge_prompt_runtime.engines.base import Arrays

SETTINGS: dict[str, dict[str, Any]] = {
    "int8": {"mode": nncf.CompressWeightsMode.INT8_SYM},
    "int4": {"mode": nncf.CompressWeightsMode.INT4_SYM, "group_size": 32, "ratio": 1.0},
}
"""NNCF's settings for each weight format; `benchmarks/questions/weights.py` compares alternatives."""

CALIBRATED: dict[str, dict[str, Any]] = {
    "int8": {},
    "int4": {"mode": nncf.CompressWeightsMode.INT4_ASYM, "scale_estimation": True},
}
"""Additional settings if there are texts to calibrate on."""

DATA_AWARE = {"awq", "scale_estimation", "gptq", "lora_correction"}
"""The settings of NNCF that need such texts."""


def compress(sources: Sequence[Path], target: Path, weights: str, feeds: Sequence[Arrays]) -> Compressed:
    """Write an IR with compressed weights.

    Args:
        sources: One element: the IR in fp32.
        target: The folder to write to, which differs from that of the IR.
        weights: `fp16`, `int8` or `int4`.
        feeds: Batches of all inputs by name to calibrate on; may be empty.

    Returns:
        The files written, and the settings used.
    """
    (source,) = sources
    model = openvino.Core().read_model(source)
    how: dict[str, Any] = {"tool": f"openvino {version('openvino')}"}
    if weights in SETTINGS:
        settings = SETTINGS[weights] | (CALIBRATED[weights] if feeds else {})
        how = {"tool": f"nncf {version('nncf')}", **settings, "mode": settings["mode"].value}
        model = _compressed(model, settings, feeds)
    openvino.save_model(model, target / source.name, compress_to_fp16=weights == "fp16")
    return Compressed((source.name, source.with_suffix(".bin").name), how)


def _compressed(model: openvino.Model, settings: dict[str, Any], feeds: Sequence[Arrays]) -> openvino.Model:
    calibration: dict[str, Any] = {}
    if settings.keys() & DATA_AWARE:
        calibration = {"dataset": nncf.Dataset([dict(batch) for batch in feeds]), "subset_size": len(feeds)}
    advanced = nncf.AdvancedCompressionParameters(group_size_fallback_mode=nncf.GroupSizeFallbackMode.ADJUST)
    nncf.set_log_level(logging.ERROR)
    with suppress_library_output(), redirect_stdout(sys.stderr):  # NNCF prints progress bars
        return nncf.compress_weights(model, **settings, **calibration, advanced_parameters=advanced)


def keep_fold(graph_file: Path, weights_file: Path | None, target: Path) -> tuple[str, ...]:
    """Write a folding graph with its own weights in full precision.

    Args:
        graph_file: The IR.
        weights_file: Its weights, if they are not in the default file.
        target: The folder to write to, which differs from that of the IR.

    Returns:
        The names of the files written.
    """
    core = openvino.Core()
    model = core.read_model(graph_file) if weights_file is None else core.read_model(graph_file, weights_file)
    openvino.save_model(model, target / graph_file.name, compress_to_fp16=False)
    return graph_file.name, graph_file.with_suffix(".bin").name
