from __future__ import annotations

import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from numpy.typing import NDArray

from edge_prompt import Bundle, read_bundle
from edge_prompt.base import extras
from edge_prompt.base.errors import InputError, ManifestError, MissingExtraError, UnknownEngineError
from edge_prompt.storage.files import sha256_of
from edge_prompt_runtime.engines import base as engines
from edge_prompt_runtime.engines.base import ENGINES, Engine, open_engine, open_graph
from edge_prompt_runtime.engines.options import PRECISIONS, EngineOptions
from edge_prompt_runtime.execution.network import GraphNetwork, arrays_of
from edge_prompt_runtime.inputs.requests import open_requests
from edge_prompt_runtime.tasks.task import base_task
from tests.places import ROOT

OUTPUTS = ("features", "last_hidden_state")


def feeds(bundle: Bundle, *ids: int, rows: int = 1) -> dict[str, NDArray[Any]]:
    never_run: Any = None
    network = GraphNetwork(never_run, bundle.graph("onnxruntime").inputs, masked=True)
    request = open_requests(bundle).read({"input_ids": np.array([[2, *ids, 3]] * rows)}, base_task(bundle.manifest))
    return dict(network.feeds(arrays_of(request, range(rows)), request.tasks))


def with_graph(bundle: Bundle, engine: str, content: bytes) -> Bundle:
    path = bundle.folder / bundle.graph(engine).file
    path.write_bytes(content)
    graph = bundle.graph(engine)
    graph = replace(graph, sha256={**graph.sha256, graph.file: sha256_of(path)})
    return replace(bundle, manifest=replace(bundle.manifest, graphs={**bundle.manifest.graphs, engine: graph}))


@pytest.fixture
def opened(bundle: Bundle, engine: str) -> Engine:
    return open_engine(bundle, engine, EngineOptions(1))[1]


def test_the_name_of_an_engine_is_that_of_its_extra() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert ENGINES.keys() <= project["project"]["optional-dependencies"].keys()
    assert ENGINES.keys() <= extras.EXTRA_PACKAGES.keys()


@pytest.mark.parametrize("outputs", [OUTPUTS, OUTPUTS[::-1], OUTPUTS[:1], OUTPUTS[1:]])
def test_the_outputs_asked_for_come_in_their_order(bundle: Bundle, opened: Engine, outputs: tuple[str, ...]) -> None:
    found = opened.run(feeds(bundle, 7, 8, rows=3), outputs)
    shapes = {"features": (3, 32), "last_hidden_state": (3, 4, 32)}
    assert [(name, array.shape) for name, array in found.items()] == [(name, shapes[name]) for name in outputs]
    assert {array.dtype for array in found.values()} == {np.dtype(np.float32)}


def test_outputs_stay_as_they_are_when_the_engine_runs_again(bundle: Bundle, opened: Engine) -> None:
    first = opened.run(feeds(bundle, 7, 8), OUTPUTS)
    kept = {name: array.copy() for name, array in first.items()}
    second = opened.run(feeds(bundle, 9, 10), OUTPUTS)
    for name in OUTPUTS:
        np.testing.assert_array_equal(first[name], kept[name])
        assert np.abs(first[name] - second[name]).max() > 1e-3


def test_feeds_are_left_as_they_were(bundle: Bundle, opened: Engine) -> None:
    given = feeds(bundle, 7, 8)
    kept = {name: array.copy() for name, array in given.items()}
    opened.run(given, OUTPUTS)
    for name, array in kept.items():
        np.testing.assert_array_equal(given[name], array, strict=True)


def test_engines_agree(bundle: Bundle, assert_close: Callable[[NDArray[Any], NDArray[Any]], None]) -> None:
    found = [open_engine(bundle, name, EngineOptions(1))[1].run(feeds(bundle, 7, 8, 9), OUTPUTS) for name in ENGINES]
    for name in OUTPUTS:
        assert_close(found[0][name], found[1][name])


def test_threads_never_see_the_outputs_of_others(bundle: Bundle, opened: Engine) -> None:
    requests = [feeds(bundle, *range(5, 6 + count)) for count in range(8)]
    alone = [opened.run(request, OUTPUTS) for request in requests]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda number: opened.run(requests[number % 8], OUTPUTS), range(80)))
    for number, found in enumerate(together):
        for name in OUTPUTS:
            np.testing.assert_allclose(found[name], alone[number % 8][name], atol=1e-5)


def test_weights_may_lie_in_a_file_that_the_graph_does_not_name(
    bundle_copy: Path, assert_close: Callable[[NDArray[Any], NDArray[Any]], None]
) -> None:
    bundle = read_bundle(bundle_copy)
    wanted = open_engine(bundle, "openvino", EngineOptions(1))[1].run(feeds(bundle, 7, 8), OUTPUTS)
    graph, weights = bundle.graph("openvino"), "weights.bin"
    (bundle_copy / "openvino_model.bin").rename(bundle_copy / weights)
    graph = replace(
        graph, weights_file=weights, sha256={name: sha256_of(bundle_copy / name) for name in (graph.file, weights)}
    )
    found = open_graph(bundle, graph, EngineOptions(1)).run(feeds(bundle, 7, 8), OUTPUTS)
    for name in OUTPUTS:
        assert_close(found[name], wanted[name])


@pytest.mark.parametrize("name", ["abacus", "ONNXRuntime", "onnx"])
def test_an_unknown_engine_is_refused(bundle: Bundle, name: str) -> None:
    with pytest.raises(UnknownEngineError, match=f"there is no engine '{name}'; expected one of onnxruntime, openvino"):
        open_engine(bundle, name)


def test_an_engine_without_a_graph_is_refused(bundle: Bundle, engine: str) -> None:
    graphs = {name: graph for name, graph in bundle.manifest.graphs.items() if name != engine}
    other = replace(bundle, manifest=replace(bundle.manifest, graphs=graphs))
    with pytest.raises(UnknownEngineError, match=f"no graph for the engine '{engine}'"):
        open_engine(other, engine)


@pytest.mark.parametrize("missing", ["the engine itself", "tokenizers"])
def test_a_missing_engine_is_reported_with_the_pip_command(
    bundle: Bundle, engine: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = engine if missing == "the engine itself" else missing
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == package else find_spec(name))
    with pytest.raises(MissingExtraError, match=rf"needs {package}, .*Run: pip install 'edge-prompt\[{engine}\]'"):
        open_engine(bundle, engine)


def test_without_a_name_the_engine_that_is_installed_is_taken(
    bundle: Bundle, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "find_spec", lambda name: find_spec(name) if name == engine else None)
    assert open_engine(bundle, None, EngineOptions(1))[0] == engine


def test_without_any_engine_the_pip_command_is_reported(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (engines, extras):
        monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="Run: pip install 'edge-prompt"):
        open_engine(bundle, None)


def test_a_bundle_for_engines_that_nobody_knows_is_refused(bundle: Bundle) -> None:
    graphs = {"abacus": replace(bundle.graph("onnxruntime"), engine="abacus")}
    with pytest.raises(UnknownEngineError, match="there is no engine 'abacus'"):
        open_engine(replace(bundle, manifest=replace(bundle.manifest, graphs=graphs)), None)


def test_a_graph_that_the_engine_cannot_load_is_refused(bundle_copy: Path, engine: str) -> None:
    content = {"onnxruntime": b"\x08\x0a", "openvino": b"<net></net>"}[engine]
    broken = with_graph(read_bundle(bundle_copy), engine, content)
    with pytest.raises(ManifestError, match=r"cannot load it .*expected a graph that it can run"):
        open_engine(broken, engine)


@pytest.mark.parametrize("content", [b"", b"no graph"])
def test_what_is_no_graph_is_refused_before_the_engine_sees_it(bundle_copy: Path, engine: str, content: bytes) -> None:
    broken = with_graph(read_bundle(bundle_copy), engine, content)
    with pytest.raises(ManifestError, match=r"expected an ONNX model|expected an OpenVINO IR"):
        open_engine(broken, engine)


def test_openvino_computes_in_bf16_where_the_processor_can(bundle: Bundle) -> None:
    capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if "BF16" not in capabilities:
        with pytest.raises(InputError, match="this processor does not support the precision bf16"):
            open_engine(bundle, "openvino", EngineOptions(1, "bf16"))
        return
    exact, coarse = (
        open_engine(bundle, "openvino", EngineOptions(1, precision))[1].run(feeds(bundle, 7, 8), OUTPUTS)
        for precision in PRECISIONS
    )
    for name in OUTPUTS:
        assert exact[name].dtype == coarse[name].dtype == np.float32
        assert 1e-4 < np.abs(exact[name] - coarse[name]).max() < 0.1 * np.abs(exact[name]).max()


def test_bf16_on_openvino_is_refused_without_a_processor_for_it(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino.Core, "get_property", lambda *_: ["FP32", "INT8"])
    with pytest.raises(InputError, match="this processor does not support the precision bf16"):
        open_engine(bundle, "openvino", EngineOptions(1, "bf16"))


def test_onnx_runtime_refuses_bf16(bundle: Bundle) -> None:
    with pytest.raises(InputError, match=r"bf16 is not available on ONNX Runtime's CPU; expected f32"):
        open_engine(bundle, "onnxruntime", EngineOptions(1, "bf16"))


@pytest.mark.parametrize("precision", ["fp32", "int8", ""])
def test_an_unknown_precision_is_refused(bundle: Bundle, engine: str, precision: str) -> None:
    with pytest.raises(InputError, match=f"the precision '{precision}' is unknown; expected one of f32, bf16"):
        open_engine(bundle, engine, EngineOptions(1, precision))


def test_an_altered_graph_is_refused(bundle_copy: Path, engine: str) -> None:
    bundle = read_bundle(bundle_copy)
    with (bundle_copy / bundle.graph(engine).file).open("ab") as stream:
        stream.write(b" ")
    with pytest.raises(ManifestError, match="is altered"):
        open_engine(bundle, engine)
