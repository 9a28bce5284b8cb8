"""The runtime on a custom backbone, built by hand: `y = signal + the sum of the virtual tokens`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edge_prompt import Head, write_prompt
from edge_prompt.base.errors import InputError
from edge_prompt.formats.manifest import Backbone, EncoderManifest, Graph, write_manifest
from edge_prompt.formats.preprocessing import ArrayInput, ArrayPreprocessing
from edge_prompt.storage.files import sha256_of
from edge_prompt_runtime import Runtime

FINGERPRINT = "0" * 64
SIGNAL = np.arange(12, dtype=np.float32).reshape(4, 3)

MakeBundle = Callable[..., Path]


@pytest.fixture
def make_bundle(tmp_path: Path) -> MakeBundle:
    """Write the bundle, whose graph returns `y [batch, 3]` and `tokens [batch, num_virtual_tokens, 3]`."""

    def made(*outputs: str) -> Path:
        folder = tmp_path / "bundle"
        folder.mkdir()
        onnx.save(graph(), folder / "model.onnx")
        inputs = ("signal", "soft_prompt")
        digests = {"model.onnx": sha256_of(folder / "model.onnx")}
        manifest = EncoderManifest(
            backbone=Backbone("mine", None, "", "Mine", "", 0, 3, FINGERPRINT, ()),
            graphs={"onnxruntime": Graph("onnxruntime", "model.onnx", "fp32", inputs, outputs, digests)},
            kinds={"soft": (None, 3)},
            refused_kinds={},
            preprocessing=ArrayPreprocessing({"signal": ArrayInput("float32", (None, 3))}),
            files={},
            parity={},
            versions={},
        )
        write_manifest(folder, manifest)
        return folder

    return made


def graph() -> onnx.ModelProto:
    value = helper.make_tensor_value_info
    axis = numpy_helper.from_array(np.array([1]), "axis")
    nodes = [
        helper.make_node("ReduceSum", ["soft_prompt", "axis"], ["sum"], keepdims=0),
        helper.make_node("Add", ["signal", "sum"], ["y"]),
        helper.make_node("Identity", ["y"], ["features"]),
        helper.make_node("Unsqueeze", ["signal", "axis"], ["row"]),
        helper.make_node("Add", ["row", "soft_prompt"], ["tokens"]),
    ]
    inputs = [
        value("signal", TensorProto.FLOAT, ["batch", 3]),
        value("soft_prompt", TensorProto.FLOAT, ["prompts", "length", 3]),
    ]
    outputs = [
        value("y", TensorProto.FLOAT, ["batch", 3]),
        value("features", TensorProto.FLOAT, ["batch", 3]),
        value("tokens", TensorProto.FLOAT, ["batch", "length", 3]),
    ]
    made = helper.make_graph(nodes, "mine", inputs, outputs, [axis])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def with_prompts(folder: Path) -> Runtime:
    """The bundle with prompts of 1, 2 and again 2 virtual tokens, which add up to 1, 20 and 200."""
    runtime = Runtime(folder, "onnxruntime")
    for name, length, number in (("one", 1, 1), ("two", 2, 10), ("also_two", 2, 100)):
        path = folder.parent / f"{name}.npy"
        write_prompt(path, np.full((length, 3), number, np.float32), "soft", FINGERPRINT)
        runtime.load(name, path)
    return runtime


@pytest.mark.parametrize(
    ("task", "added"),
    [
        (None, [0, 0, 0, 0]),
        ("two", [20, 20, 20, 20]),
        (["one", "two", "one", None], [1, 20, 1, 0]),
        (["two", "also_two", None, "two"], [20, 200, 0, 20]),
    ],
)
def test_every_row_is_under_its_own_task(make_bundle: MakeBundle, task: Any, added: list[int]) -> None:
    outputs = with_prompts(make_bundle("y")).infer({"signal": SIGNAL}, task)
    assert outputs.keys() == {"y"}
    np.testing.assert_array_equal(outputs["y"], SIGNAL + np.array(added, np.float32)[:, None], strict=True)


def test_outputs_that_fit_into_no_one_array_are_refused(make_bundle: MakeBundle) -> None:
    runtime = with_prompts(make_bundle("y", "tokens"))
    assert runtime.infer({"signal": SIGNAL[:2]}, ["two", "also_two"])["tokens"].shape == (2, 2, 3)
    with pytest.raises(
        InputError, match=r"the output tokens has the shapes \[1, 3\] and \[2, 3\] in different rows; expected"
    ):
        runtime.infer({"signal": SIGNAL[:2]}, ["one", "two"])


def test_without_features_there_is_no_embedding_and_no_class(make_bundle: MakeBundle) -> None:
    runtime = with_prompts(make_bundle("y"))
    path = runtime.bundle.folder.parent / "headed.npy"
    head = Head(np.eye(3, dtype=np.float32), np.zeros(3, np.float32))
    write_prompt(path, np.ones((1, 3), np.float32), "soft", FINGERPRINT, head=head)
    runtime.load("headed", path)
    asks: tuple[Callable[..., Any], ...] = (runtime.embed, runtime.classify)
    for ask in asks:
        with pytest.raises(
            InputError, match="this backbone has no features; expected a backbone with an output named features"
        ):
            ask({"signal": SIGNAL}, "headed")


def test_features_are_embeddings_as_they_are_and_what_heads_read(make_bundle: MakeBundle) -> None:
    runtime = with_prompts(make_bundle("features"))
    np.testing.assert_array_equal(runtime.embed({"signal": SIGNAL}, ["one"] * 4), SIGNAL + 1)
    path = runtime.bundle.folder.parent / "headed.npy"
    head = Head(np.array([[1, 0, 0], [0, 0, -1]], np.float32), np.zeros(2, np.float32))
    write_prompt(path, np.ones((1, 3), np.float32), "soft", FINGERPRINT, head=head, labels=("first", "last"))
    runtime.load("headed", path)
    answers = runtime.classify({"signal": SIGNAL - 6}, "headed")
    assert [answer.label for answer in answers] == ["last", "last", "first", "first"]


@pytest.mark.parametrize("inputs", ["a text", [SIGNAL], SIGNAL])
def test_nothing_but_arrays_by_name_is_answered(
    make_bundle: MakeBundle, inputs: str | list[NDArray[Any]] | NDArray[Any]
) -> None:
    with pytest.raises(InputError, match="expected arrays by name: signal float32"):
        Runtime(make_bundle("features")).embed(inputs)
