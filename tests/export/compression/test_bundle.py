"""Weight compression of a tiny network of every modality, on every engine."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
import torch
from torch import Tensor, nn

from edge_prompt import Bundle, read_bundle
from edge_prompt.base import extras
from edge_prompt.base.errors import (
    InputError,
    MissingExtraError,
    MissingFileError,
    ParityError,
    UnsupportedArchitectureError,
)
from edge_prompt.cli import main
from edge_prompt_export import ArrayInput, ModuleDescription, export_backbone
from edge_prompt_export.compression import bundle as weights_bundle
from edge_prompt_export.compression.bundle import compress_bundle
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.reference import check_reference
from edge_prompt_runtime.tasks.deep_prompts import DeepPromptFolder
from tests.conftest import BuildOnce
from tests.tiny.language import HIDDEN_SIZE, VOCAB_SIZE, write_tiny_language

FAMILIES = ("tiny_bundle", "tiny_image_bundle", "tiny_language_bundle", "wide_bundle")
"""A text encoder, a vision transformer that folds, a causal language model, a module of the user's own."""

SMALL = {"fp16": 0.01, "int8": 0.2, "int4": 1.5}
"""How far from torch, relative to the largest output: networks this small round more than trained ones."""

Small = Callable[[str, str], Bundle]


class Wide(nn.Module):
    """A table, a layer whose width is no multiple of a block, a layer tied to the table, and a summed prompt."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.table = nn.Embedding(60, 40)
            self.inner = nn.Linear(40, 32)
            self.outer = nn.Linear(32, 40, bias=False)

    def forward(self, tokens: Tensor, soft_prompt: Tensor) -> Any:
        hidden = self.table(tokens).mean(1) + soft_prompt.sum(1)
        return (hidden + self.outer(torch.relu(self.inner(hidden)))) @ self.table.weight.T


WIDE = ModuleDescription(
    inputs={"tokens": ArrayInput("int64", (None, None))},
    prompts={"soft": (None, 40)},
    outputs=("features",),
    integers_below=60,
)


@pytest.fixture(scope="session")
def wide_bundle(build_once: BuildOnce) -> Path:
    return build_once("wide_bundle", lambda folder: export_backbone(Wide(), folder, description=WIDE))


@pytest.fixture
def small(request: pytest.FixtureRequest, build_once: BuildOnce) -> Small:
    """An fp32 bundle with compressed weights."""

    def made(family: str, weights: str) -> Bundle:
        source: Path = request.getfixturevalue(family)

        def build(folder: Path) -> None:
            shutil.copytree(source, folder)
            compress_bundle(folder, weights, {})

        return read_bundle(build_once(f"{family}_{weights}", build))

    return made


@pytest.mark.parametrize("weights", SMALL)
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_as_close_to_torch_as_its_bits_allow(
    small: Small, family: str, weights: str, engine: str
) -> None:
    bundle = small(family, weights)
    figures = check_reference(bundle, engine)
    assert 1e-7 < max(figures.values()) < SMALL[weights]
    assert bundle.manifest.parity[engine]["reference"] == pytest.approx(figures, rel=0.1)
    assert bundle.graph(engine).weights == weights
    assert bundle.graph(engine).compression["tool"].split()[0] in {"onnxruntime", "openvino", "nncf"}


@pytest.mark.parametrize("family", FAMILIES)
def test_fewer_bits_take_fewer_bytes(small: Small, family: str, engine: str, request: pytest.FixtureRequest) -> None:
    source = read_bundle(request.getfixturevalue(family))
    sizes = [matrices_bytes(bundle, engine) for bundle in (source, *(small(family, weights) for weights in SMALL))]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 0.5 * sizes[0]


def matrices_bytes(bundle: Bundle, engine: str) -> int:
    """The bytes of all weights except vectors in the engine's graph; shared weights count once."""
    path = bundle.folder / bundle.graph(engine).file
    if engine == "onnxruntime":
        graph = onnx.load(path, load_external_data=False).graph
        places = {}
        for tensor in graph.initializer:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            key = entries.get("offset", tensor.name)
            size = int(entries["length"]) if entries else len(onnx.numpy_helper.to_array(tensor).tobytes())
            places[key] = size if len(tensor.dims) > 1 else 0
        return sum(places.values())
    constants = [node for node in openvino.Core().read_model(path).get_ops() if node.get_type_name() == "Constant"]
    return sum(node.get_byte_size() for node in constants if len(node.get_output_shape(0)) > 1)


@pytest.mark.parametrize("weights", SMALL)
def test_rows_of_several_tasks_equal_their_rows_alone(
    small: Small, weights: str, engine: str, make_prompt: Callable[..., Path], tiny_bundle: Path
) -> None:
    runtime = Runtime(small("tiny_bundle", weights).folder, engine, 1)
    for kind in ("soft", "prefix"):
        runtime.load(kind, make_prompt(kind, kind, bundle=tiny_bundle))
    tasks = [None, "soft", "prefix"]
    together = runtime.embed(["the oil price rose"] * 3, tasks)
    for row, task in enumerate(tasks):
        np.testing.assert_allclose(runtime.embed("the oil price rose", task), together[row], atol=0.02)
    assert not np.allclose(together[0], together[1], atol=0.02)


def test_tied_embeddings_are_stored_once(tmp_path: Path) -> None:
    write_tiny_language(tmp_path / "network", tie_word_embeddings=True)
    bundle = export_backbone(tmp_path / "network", tmp_path / "bundle", weights="int4", formats=("onnx",))
    for name in ("model.onnx", bundle.graph("onnxruntime").file):
        graph = onnx.load(bundle.folder / name, load_external_data=False).graph
        initializers = {tensor.name: tensor for tensor in graph.initializer}
        (lookup,) = (node for node in graph.node if node.op_type == "GatherBlockQuantized")
        output = next(node for node in graph.node if "logits" in node.output)
        assert output.op_type == "MatMulNBits"
        first, second = (
            {entry.key: entry.value for entry in initializers[packed].external_data}
            for packed in (lookup.input[0], output.input[1])
        )
        assert first == second
        assert first["length"] == str(VOCAB_SIZE * HIDDEN_SIZE)


def test_deep_prompts_fold_in_full_precision(small: Small, tiny_image_bundle: Path, engine: str) -> None:
    deep = np.random.default_rng(0).standard_normal((2, 5, 32), dtype=np.float32)
    bundles = small("tiny_image_bundle", "int4"), read_bundle(tiny_image_bundle)
    found, wanted = (DeepPromptFolder(bundle, engine)(deep) for bundle in bundles)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_the_folder_contains_the_bundle_only(small: Small, tiny_image_bundle: Path) -> None:
    bundle = small("tiny_image_bundle", "int8")
    names = {name for graph in bundle.manifest.fold_graphs.values() for name in graph.sha256}
    names |= {name for graph in bundle.manifest.graphs.values() for name in graph.sha256}
    assert {path.name for path in bundle.folder.iterdir()} == {"edge_prompt.json", *names, *bundle.manifest.files}
    for graph in (*bundle.manifest.graphs.values(), *bundle.manifest.fold_graphs.values()):
        bundle.require_unaltered(graph.sha256)
    bundle.require_unaltered(bundle.manifest.files)
    source = read_bundle(tiny_image_bundle).manifest
    assert bundle.manifest.backbone == source.backbone
    assert bundle.manifest.kinds == source.kinds


def test_the_command_writes_small_weights(
    tiny_language: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["export", str(tiny_language), str(tmp_path / "bundle"), "--weights", "int8"])
    assert ended.value.code == 0
    assert "onnxruntime: " in (said := capsys.readouterr().out)
    assert "with weights in int8" in said
    generated = Runtime(tmp_path / "bundle", "onnxruntime", 1).generate(["the oil"], max_new_tokens=3)
    assert isinstance(generated, list)
    assert len(generated[0].tokens) == 3


def test_calibration_texts_are_used(tiny_language: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("the oil price rose after the meeting " * 100, encoding="utf-8")
    bundle = export_backbone(
        tiny_language,
        tmp_path / "bundle",
        weights="int4",
        calibrate=tmp_path / "texts.txt",
        formats=("openvino",),
    )
    assert bundle.graph("openvino").compression["scale_estimation"] is True
    assert max(check_reference(bundle, "openvino").values()) < SMALL["int4"]


def test_texts_that_cannot_calibrate_are_refused(tiny_language: Path, wide_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("the oil", encoding="utf-8")
    export = partial(export_backbone, bundle=tmp_path / "bundle", weights="int4", formats=("openvino",))
    with pytest.raises(InputError, match=r"texts.txt has .* tokens; expected at least 128"):
        export(tiny_language, calibrate=tmp_path / "texts.txt")
    with pytest.raises(MissingFileError, match=r"nothing.txt: no such file"):
        export(tiny_language, calibrate=tmp_path / "nothing.txt")
    with pytest.raises(UnsupportedArchitectureError, match="calibration texts for a backbone that reads arrays"):
        export(Wide(), description=WIDE, calibrate=tmp_path / "texts.txt")


def test_unknown_weights_are_refused_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="weights 'int3'; expected one of fp32, fp16, int8, int4"):
        export_backbone("nowhere", tmp_path / "bundle", weights="int3")


def test_missing_packages_are_reported_with_the_pip_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "nncf" else name)
    with pytest.raises(MissingExtraError, match=r"needs nncf, .*pip install 'edge-prompt\[quantize\]'"):
        export_backbone("nowhere", tmp_path / "bundle", weights="int8")


def test_too_large_a_difference_is_refused(tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(tiny_bundle, tmp_path / "bundle")
    monkeypatch.setitem(weights_bundle.LOOSEST, "int4", 1e-6)
    with pytest.raises(ParityError, match=r"in int4 differs from torch by .* \(base\); expected at most 1e-06"):
        compress_bundle(tmp_path / "bundle", "int4", {})
