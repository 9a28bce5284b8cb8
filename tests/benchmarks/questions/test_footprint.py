from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.questions.footprint import (
    DISK,
    LORAS,
    MEMORY,
    NETWORKS,
    Plan,
    bundle_files,
    extrapolated,
    measure,
    named,
)

PLAN = Plan(counts=(1, 3), networks=(1, 2), loras=(1, 2), engines=("onnxruntime",), prompts={"soft": 4, "prefix": 8})


def test_everything_is_measured(tiny_bundle: Path, tiny_backbone: Path) -> None:
    found = measure(tiny_bundle, tiny_backbone, PLAN, threads=1)
    values = {one.name: one.samples[0] for one in found.series}
    assert len(values) == len(found.series)
    soft = "edge-prompt on onnxruntime, soft of 4"
    assert 0 < values[named(soft, DISK, 1)] < values[named(soft, DISK, 3)]
    assert values[named(f"{soft.replace('soft of 4', 'prefix of 8')}, default memory budget", MEMORY, 3)] > 0
    networks, loras = f"{NETWORKS} on onnxruntime", LORAS
    assert values[named(networks, DISK, 2)] == 2 * values[named(networks, DISK, 1)]
    assert values[named(f"{networks} (extrapolated)", DISK, 3)] == pytest.approx(3 * values[named(networks, DISK, 1)])
    assert named(f"{loras} (extrapolated)", MEMORY, 3) in values
    assert {name for ratio in found.ratios for name in (ratio.top, ratio.bottom)} <= values.keys()
    assert {name for chart in found.charts for name in chart.series} == values.keys()


def test_a_line_is_extrapolated_along_its_last_slope() -> None:
    points = {("x", DISK, 1): [1.0], ("x", DISK, 2): [9.0], ("x", DISK, 4): [13.0], ("y", DISK, 10): [1.0]}
    assert extrapolated(points, (1, 4, 10)) == {("x (extrapolated)", DISK, 10): [25.0]}


def test_the_files_of_one_engine_are_counted(tiny_bundle: Path) -> None:
    names = {
        engine: {file.name for file in bundle_files(tiny_bundle, engine)} for engine in ("onnxruntime", "openvino")
    }
    assert "model.onnx" in names["onnxruntime"] - names["openvino"]
    assert "openvino_model.bin" in names["openvino"] - names["onnxruntime"]
    assert "edge_prompt.json" in names["onnxruntime"] & names["openvino"]
