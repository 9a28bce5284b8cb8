from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers.environments import PEERS
from benchmarks.peers.process_monitor import Watched
from benchmarks.questions.export_time import (
    EXPORTERS,
    answer_of,
    apart,
    export_all,
    given,
    kept_alike,
    measured,
    older_view,
    request_of,
)
from edge_prompt_runtime.bench.results import Results


def test_an_export_is_watched_and_its_output_answers(tiny_backbone: Path) -> None:
    left_out: dict[str, str] = {}
    broken = EXPORTERS["ours, ONNX"]._replace(program=("-c", "import sys; sys.exit('no disk')"))
    exporters = {"ours, ONNX": EXPORTERS["ours, ONNX"], "broken": broken}
    found, worst = export_all(exporters, "minilm", tiny_backbone, 1, 1, left_out)
    assert left_out == {"minilm: broken": "no disk (full log: export-minilm-broken.log)"}
    ((took, written),) = found["ours, ONNX"]
    assert took.seconds > 0.1
    assert took.peak_bytes > 100_000_000  # torch
    assert written > 10_000
    assert worst == 0  # there is nothing to compare it with


def test_a_language_model_gives_logits_on_both_engines_alike(tiny_language_bundle: Path) -> None:
    request = request_of("smollm2")
    answers = {engine: answer_of(tiny_language_bundle, engine, request) for engine in ("onnxruntime", "openvino")}
    assert answers["openvino"].shape[:2] == (1, 12)
    assert apart(answers["openvino"], answers["onnxruntime"]) < 1e-4


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_graph_without_a_bundle_answers(tmp_path: Path, engine: str) -> None:
    import onnx
    import openvino as ov
    from onnx import TensorProto, helper

    shapes: dict[str, list[str | int]] = {"input_ids": ["b", "s"], "past": ["b", 2, "p", 4]}
    kinds = {"input_ids": TensorProto.INT64, "past": TensorProto.FLOAT}
    inputs = [helper.make_tensor_value_info(name, kinds[name], shape) for name, shape in shapes.items()]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["b", "s"])]
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["ids"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["past"], ["sum"], keepdims=0),
        helper.make_node("Add", ["ids", "sum"], ["out"]),
    ]
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    onnx.save(model, tmp_path / "model.onnx")
    ov.save_model(ov.convert_model(tmp_path / "model.onnx"), tmp_path / "openvino_model.xml")
    np.testing.assert_array_equal(answer_of(tmp_path, engine, request_of("minilm"))[0], np.arange(10, 22))


def test_inputs_follow_from_the_request() -> None:
    request = request_of("smollm2")
    assert given("position_ids", [None, None], request).tolist() == [list(range(12))]
    assert given("past_key_values.0.key", [None, 3, None, 8], request).shape == (1, 3, 0, 8)
    assert given("beam_idx", [None], request).dtype == np.int32


def test_networks_that_differ_from_ours_are_left_out() -> None:
    ours, same, other = ("ours, ONNX", "onnxruntime"), ("optimum-onnx", "onnxruntime"), ("optimum-intel", "openvino")
    found, left_out = dict.fromkeys(EXPORTERS), dict[str, str]()
    answers = {ours: np.zeros(3), same: np.full(3, 1e-5), other: np.ones(3)}
    assert kept_alike(found, answers, "minilm", left_out) == pytest.approx(1e-5)
    assert "optimum-intel" not in found
    assert left_out == {"minilm: optimum-intel": "its outputs on openvino differ from ours by 1.0e+00"}
    with pytest.raises(SystemExit, match="nothing is published"):
        kept_alike(found, {ours: np.zeros(3), ("ours, both", "openvino"): np.ones(3)}, "minilm", left_out)


def test_an_older_transformers_finds_the_base_of_rotary_positions(tiny_language: Path, tmp_path: Path) -> None:
    import json

    view = older_view(tiny_language, tmp_path / "view")
    config = json.loads((view / "config.json").read_text(encoding="utf-8"))
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"]
    assert {path.name for path in view.iterdir()} == {path.name for path in tiny_language.iterdir() if path.is_file()}


def test_the_results_are_reported() -> None:
    took = [(Watched(2.0, 30), 4)] * 3
    found = measured({"minilm": dict.fromkeys(EXPORTERS, took)}, {}, [])
    results = Results("export_time", "?", "", 0, {}, {}, {}, **found._asdict())
    assert [results.value(one).value for one in results.ratios] == [1.0] * 4
    assert {name for chart in results.charts for name in chart.series} <= {one.name for one in results.series}
    with pytest.raises(SystemExit, match="no disk"):
        measured({}, {"a": "no disk"}, [])


def test_exporters_have_environments() -> None:
    assert {exporter.peer for exporter in EXPORTERS.values()} <= {None, *PEERS}
    for exporter in EXPORTERS.values():
        assert [part.format(model="m", task="t", target="x") for part in exporter.program]
