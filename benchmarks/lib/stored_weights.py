"""SmolLM2 with weights stored in smaller formats, each made once and kept in .cache/weights."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from nncf import CompressWeightsMode as Mode

from edge_prompt.formats.bundle import read_bundle
from edge_prompt.formats.manifest import write_manifest
from edge_prompt.storage.files import folder_written_atomically
from edge_prompt_export.backbone.backbone import LoadOptions
from edge_prompt_export.compression.bundle import compress_bundle
from edge_prompt_export.compression.calibration import calibration_feeds
from edge_prompt_export.compression.onnx import blocks as onnx_blocks
from edge_prompt_export.compression.onnx.blocks import Blocks
from edge_prompt_export.compression.openvino import weights as openvino
from edge_prompt_export.modalities.registry import load_backbone
from examples.language_scores import smollm2_bundle
from examples.real_data import CACHE, TEXTS, folder_of
from examples.real_language import smollm2

EXACT = "fp32"
"""The format that others are compared with."""

CALIBRATION = ("20newsgroups-train", "reuters-r52-train", "andersen", "grimm-tales-selected")


class Way(NamedTuple):
    """A format of weights: one of `WEIGHTS`, overrides of the tool's settings, and texts for calibration."""

    weights: str
    settings: Any = None
    calibrated: bool = False

    @property
    def is_shipped(self) -> bool:
        """Whether `edge-prompt export` offers it: no setting is overridden."""
        return self.settings is None


def int4(group_size: int, mode: Mode = Mode.INT4_ASYM, **more: Any) -> dict[str, Any]:
    """Return NNCF's settings for 4 bits in all layers except embeddings and output layer."""
    return {"mode": mode, "group_size": group_size, "ratio": 1.0, **more}


WAYS: Mapping[str, Mapping[str, Way]] = {
    "openvino": {
        "fp32": Way("fp32"),
        "fp16": Way("fp16"),
        "int8, symmetric": Way("int8"),
        "int8, asymmetric": Way("int8", {"mode": Mode.INT8_ASYM}),
        "int4, asymmetric, groups of 32": Way("int4", int4(32)),
        "int4, asymmetric, groups of 64": Way("int4", int4(64)),
        "int4, symmetric, groups of 32": Way("int4"),
        "int4, symmetric, groups of 64": Way("int4", int4(64, Mode.INT4_SYM)),
        "int4, asymmetric, groups of 64, everywhere": Way("int4", int4(64, all_layers=True)),
        "int4, asymmetric, groups of 32, calibrated": Way("int4", calibrated=True),
    },
    "onnxruntime": {
        "fp32": Way("fp32"),
        "fp16": Way("fp16"),
        "int8, blocks of 32": Way("int8", Blocks(8, 32)),
        "int8, blocks of 64": Way("int8"),
        "int8, blocks of 128": Way("int8", Blocks(8, 128)),
        "int4, blocks of 16": Way("int4", Blocks(4, 16)),
        "int4, blocks of 32": Way("int4"),
        "int4, blocks of 64": Way("int4", Blocks(4, 64)),
        "int4, blocks of 128": Way("int4", Blocks(4, 128)),
        "int4, blocks of 32, calibrated": Way("int4", calibrated=True),
    },
}
"""Formats by engine."""

TABLES: Mapping[str, dict[str, Any]] = {"openvino": openvino.SETTINGS, "onnxruntime": onnx_blocks.BLOCKS}
"""The attribute from which an engine's compressor reads the settings of its tool."""


def texts(names: tuple[str, ...]) -> list[str]:
    """Return the texts of each of the package's tables, joined."""
    csv.field_size_limit(1 << 24)
    found = []
    for name in names:
        with (folder_of(TEXTS, CACHE / "texts") / f"{name}.tab").open(encoding="utf-8") as stream:
            rows = list(csv.reader(stream, delimiter="\t"))[3:]
        found.append("\n".join(row[-1] for row in rows if len(row) > 1)[:300_000])
    return found


def kept(engine: str, name: str) -> Path:
    """Return the path of the bundle in a format."""
    return CACHE / "weights" / f"{engine}, {name}"


def shipped(engine: str, weights: str) -> str:
    """Return the name of the format that `edge-prompt export --weights` writes without calibration."""
    ways = WAYS[engine].items()
    return next(name for name, way in ways if way.weights == weights and way.is_shipped and not way.calibrated)


def bundle_with(engine: str, name: str) -> Path:
    """Return the bundle with its weights in that format, for one engine; made if it is missing."""
    source, target, way = smollm2_bundle(), kept(engine, name), WAYS[engine][name]
    if name == EXACT or target.exists():
        return source if name == EXACT else target
    with folder_written_atomically(target) as folder:
        manifest = read_bundle(source).manifest
        for file in (*manifest.graphs[engine].sha256, *manifest.files):
            shutil.copyfile(source / file, folder / file)
        write_manifest(folder, replace(manifest, graphs={engine: manifest.graphs[engine]}))
        settings, feeds = TABLES[engine], {}
        if way.calibrated:
            backbone = load_backbone(str(smollm2()), None, None, LoadOptions(None, False, None))  # noqa: FBT003
            (folder / "texts.txt").write_text("\n".join(texts(CALIBRATION)), encoding="utf-8")
            inputs = manifest.graphs[engine].inputs
            feeds = {engine: calibration_feeds(folder / "texts.txt", backbone, inputs)}
        own = settings.get(way.weights)
        try:
            settings |= {} if way.settings is None else {way.weights: way.settings}
            compress_bundle(folder, way.weights, feeds)
        finally:
            settings |= {} if own is None else {way.weights: own}
    return target
