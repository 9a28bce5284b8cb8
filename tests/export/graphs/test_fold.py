"""The folding graph in a bundle, next to the graph of a tiny ViT, for both engines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

import numpy as np
import onnx
import openvino
import pytest
import torch
from openvino import opset13

from edge_prompt import Bundle, read_bundle
from edge_prompt.storage.files import sha256_of
from edge_prompt.untrusted.npy import write_npy
from edge_prompt_export.graphs.fold import FoldModule
from edge_prompt_export.graphs.onnx.export import ONNX_DATA_FILE, ONNX_FILE, ONNX_FOLD_FILE
from edge_prompt_export.graphs.openvino.export import (
    OPENVINO_DATA_FILE,
    OPENVINO_FILE,
    OPENVINO_FOLD_FILE,
    share_weights,
)
from edge_prompt_export.modalities.image.network import ConditionedVision
from edge_prompt_export.modalities.registry import load_backbone
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.reference import TOLERANCE, difference
from edge_prompt_runtime.tasks.deep_prompts import DeepPromptFolder

LAYERS, HIDDEN_SIZE = 2, 32
NUMBERS_A_LAYER = 2 * HIDDEN_SIZE + 2 * (HIDDEN_SIZE * HIDDEN_SIZE + HIDDEN_SIZE)
"""A normalisation, and the projections to keys and to values."""

LEAST_BYTES = 1024
"""What is smaller may stay in the graph."""


class Place(NamedTuple):
    """The place of a weight in the shared data file."""

    offset: int
    length: int


@pytest.fixture(scope="module")
def bundle(tiny_image_bundle: Path) -> Bundle:
    return read_bundle(tiny_image_bundle)


@pytest.fixture(scope="module")
def module(tiny_image_bundle: Path) -> ConditionedVision:
    backbone = load_backbone(str(tiny_image_bundle.with_name(f"{tiny_image_bundle.name}_backbone")))
    assert isinstance(backbone.module, ConditionedVision)
    return backbone.module


def onnx_weights(path: Path) -> Iterator[tuple[onnx.TensorProto, Place | None]]:
    """The large weights of an ONNX graph and their places; None means inside the graph file."""
    for weight in onnx.load(path, load_external_data=False).graph.initializer:
        said = {entry.key: entry.value for entry in weight.external_data}
        if weight.data_location == onnx.TensorProto.EXTERNAL:
            assert said["location"] == ONNX_DATA_FILE
            yield weight, Place(int(said["offset"]), int(said["length"]))
        elif onnx.numpy_helper.to_array(weight).nbytes >= LEAST_BYTES:
            yield weight, None


def openvino_places(path: Path) -> list[Place]:
    """The places of an IR's constants in its weights file."""
    constants = [data.attrib for data in ET.parse(path).iter("data") if "offset" in data.attrib]  # noqa: S314
    return [Place(int(constant["offset"]), int(constant["size"])) for constant in constants]


def test_a_manifest_names_a_graph_that_folds_for_each_engine(bundle: Bundle) -> None:
    graphs = bundle.manifest.fold_graphs
    assert {engine: graph.file for engine, graph in graphs.items()} == {
        "onnxruntime": ONNX_FOLD_FILE,
        "openvino": OPENVINO_FOLD_FILE,
    }
    assert graphs["onnxruntime"].weights_file is None  # named in the graph itself
    assert graphs["openvino"].weights_file == OPENVINO_DATA_FILE
    for engine, data in (("onnxruntime", ONNX_DATA_FILE), ("openvino", OPENVINO_DATA_FILE)):
        graph = graphs[engine]
        assert (graph.inputs, graph.outputs) == (("deep_prompt",), ("prefix",))
        assert graph.sha256 == {name: sha256_of(bundle.folder / name) for name in (graph.file, data)}
        assert bundle.graph(engine).sha256[data] == graph.sha256[data]


def test_weights_of_the_onnx_graph_are_those_of_the_network_stored_once(bundle: Bundle) -> None:
    own = {place for _, place in onnx_weights(bundle.folder / ONNX_FILE)}
    found = list(onnx_weights(bundle.folder / ONNX_FOLD_FILE))
    assert len(found) == 2 * LAYERS  # the projections
    assert all(place in own for _, place in found)
    numbers = sum(place.length for place in own if place) // 4
    assert (bundle.folder / ONNX_DATA_FILE).stat().st_size < 4 * numbers * 1.1
    assert (bundle.folder / ONNX_FOLD_FILE).stat().st_size < 12_000


def test_weights_of_the_openvino_graph_are_those_of_the_network_stored_once(bundle: Bundle) -> None:
    own = set(openvino_places(bundle.folder / OPENVINO_FILE))
    found = openvino_places(bundle.folder / OPENVINO_FOLD_FILE)
    large = [place for place in found if place.length >= LEAST_BYTES]
    assert len(large) == 2 * LAYERS
    assert set(large) <= own
    size = (bundle.folder / OPENVINO_DATA_FILE).stat().st_size
    assert all(place.offset + place.length <= size for place in found)
    assert size - max(place.offset + place.length for place in own) < LEAST_BYTES  # constants that only folding needs
    assert not (bundle.folder / OPENVINO_FOLD_FILE).with_suffix(".bin").exists()


def test_the_onnx_graph_holds_only_what_folding_needs(bundle: Bundle) -> None:
    path = bundle.folder / ONNX_FOLD_FILE
    onnx.checker.check_model(path, full_check=True)
    graph = onnx.load(path).graph
    operations = {node.op_type for node in graph.node}
    assert not operations & {"Conv", "Gelu", "Erf", "Tanh", "Softmax", "Attention"}
    floats = [weight for weight in graph.initializer if weight.data_type == onnx.TensorProto.FLOAT]
    assert sum(onnx.numpy_helper.to_array(weight).size for weight in floats) <= LAYERS * NUMBERS_A_LAYER
    shape = [dim.dim_param or dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim]
    assert shape == [LAYERS, "num_virtual_tokens", HIDDEN_SIZE]


def test_the_openvino_graph_holds_only_what_folding_needs(bundle: Bundle) -> None:
    model = openvino.Core().read_model(bundle.folder / OPENVINO_FOLD_FILE, bundle.folder / OPENVINO_DATA_FILE)
    operations = {operation.get_type_name() for operation in model.get_ops()}
    assert not operations & {"Convolution", "Gelu", "Tanh", "Softmax", "ScaledDotProductAttention"}
    constants = [operation for operation in model.get_ops() if operation.get_type_name() == "Constant"]
    floats = [one for one in constants if one.get_output_element_type(0) == openvino.Type.f32]
    numbers = sum(int(np.prod(one.get_output_shape(0))) for one in floats)
    assert numbers <= LAYERS * (NUMBERS_A_LAYER + 1)
    assert model.inputs[0].get_partial_shape().to_string() == f"[{LAYERS},?,{HIDDEN_SIZE}]"


@pytest.mark.parametrize("length", [1, 2, 5, 40])
def test_an_engine_folds_to_what_torch_folds_to(
    length: int, bundle: Bundle, module: ConditionedVision, engine: str
) -> None:
    deep = module.example_prompt("deep", length, seed=length)
    with torch.no_grad():
        reference = module.fold(deep).numpy()[:, :, 0]
    assert difference({"prefix": DeepPromptFolder(bundle, engine)(deep.numpy())}, {"prefix": reference}) <= 1e-5


@pytest.mark.parametrize("length", [1, 7])
def test_a_deep_prompt_on_a_device_is_vpt_deep_as_published(
    length: int, bundle: Bundle, module: ConditionedVision, engine: str, tmp_path: Path
) -> None:
    deep = module.example_prompt("deep", length, seed=length)
    write_npy(tmp_path / "task.npy", deep.numpy())
    runtime = Runtime(bundle.folder, engine)
    runtime.load("task", tmp_path / "task.npy", "deep")
    images = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        naive = dict(zip(module.output_names, (out.numpy() for out in module.naive_deep(images, deep)), strict=True))
    assert difference(runtime.infer({"pixel_values": images.numpy()}, "task"), naive) <= TOLERANCE


def test_a_fold_module_says_what_a_tracer_needs(module: ConditionedVision) -> None:
    folding = FoldModule(module)
    inputs = folding.trace_inputs()
    assert {name: tuple(tensor.shape) for name, tensor in inputs.items()} == {"deep_prompt": (LAYERS, 5, HIDDEN_SIZE)}
    assert folding.dynamic_axes() == {"deep_prompt": {1: "num_virtual_tokens"}}
    with torch.no_grad():
        assert folding(**inputs).shape == (LAYERS, 2, 1, 4, 5, 8)


def save(path: Path, *constants: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
    """Write an IR that returns `x [17]` plus each constant."""
    given = opset13.parameter([17], np.float32, name="x")
    results = [opset13.add(given, opset13.constant(constant)) for constant in constants]
    openvino.save_model(openvino.Model(results, [given]), path, compress_to_fp16=False)


def test_openvino_weights_that_the_other_lacks_are_appended_and_aligned(tmp_path: Path) -> None:
    shared, lone, extra = (np.arange(17, dtype=np.float32) + start for start in (0, 100, 200))
    save(tmp_path / "one.xml", shared, lone)
    save(tmp_path / "other.xml", extra, shared)
    before = (tmp_path / "other.bin").read_bytes()
    share_weights(tmp_path, "one.xml", "other.xml")
    after = (tmp_path / "other.bin").read_bytes()
    assert after.startswith(before)
    start = after.index(lone.tobytes())
    assert start % 64 == 0
    assert len(before) <= start == len(after) - lone.nbytes
    assert after.count(shared.tobytes()) == 1
    assert {path.name for path in tmp_path.iterdir()} == {"one.xml", "other.xml", "other.bin"}
    for name, constants in (("one.xml", (shared, lone)), ("other.xml", (extra, shared))):
        model = openvino.Core().compile_model(
            openvino.Core().read_model(tmp_path / name, tmp_path / "other.bin"), "CPU"
        )
        found = model(np.ones(17, np.float32))
        for output, constant in enumerate(constants):
            np.testing.assert_array_equal(found[output], constant + 1)
