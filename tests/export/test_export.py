from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edge_prompt.base.errors import BackboneError, EdgePromptError, InputError, ParityError, WriteError
from edge_prompt.base.version import __version__
from edge_prompt.formats.bundle import Bundle, read_bundle
from edge_prompt.formats.kv_cache_names import shared_form
from edge_prompt.formats.manifest import MANIFEST_NAME
from edge_prompt.formats.preprocessing import TextPreprocessing
from edge_prompt.storage.files import sha256_of
from edge_prompt_export import export, export_backbone
from edge_prompt_export.backbone.conditioned_module import ConditionedModule
from edge_prompt_export.export import FORMATS, Format
from edge_prompt_export.graphs.fold import GraphFiles
from edge_prompt_export.modalities.registry import load_backbone
from edge_prompt_export.modalities.text.network import ConditionedTextEncoder
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.reference import TOLERANCE


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return read_bundle(tiny_bundle)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """The path of a bundle to write, in a temporary folder."""
    folder = tmp_path / "target"
    folder.mkdir()
    return folder / "bundle"


def assert_nothing_left(target: Path) -> None:
    assert list(target.parent.iterdir()) == []


def test_a_bundle_holds_what_the_manifest_names_and_nothing_else(bundle: Bundle) -> None:
    graphs = bundle.manifest.graphs
    assert {name: graph.file for name, graph in graphs.items()} == {
        "onnxruntime": "model.onnx",
        "openvino": "openvino_model.xml",
    }
    digests = dict(bundle.manifest.files)
    for graph in graphs.values():
        digests |= graph.sha256
        assert graph.inputs == ("input_ids", "attention_mask", "token_type_ids", "soft_prompt", "prefix")
        assert graph.outputs == ("features", "last_hidden_state")
        assert graph.weights == "fp32"
    assert {path.name for path in bundle.folder.iterdir()} == digests.keys() | {MANIFEST_NAME}
    assert {name: sha256_of(bundle.folder / name) for name in digests} == digests


def test_the_manifest_says_what_was_exported(bundle: Bundle, tiny_backbone: Path) -> None:
    loaded, manifest = load_backbone(str(tiny_backbone)), bundle.manifest
    assert manifest.backbone.source == tiny_backbone.name
    assert manifest.backbone.model_type == "bert"
    assert manifest.backbone.architecture == "BertModel"
    assert manifest.backbone.task == "feature-extraction"
    assert manifest.backbone.fingerprint == loaded.fingerprint
    assert manifest.backbone.num_parameters == loaded.num_parameters
    assert manifest.backbone.feature_size == 32
    assert manifest.kinds == {"soft": (None, 32), "prefix": (2, 2, 4, None, 8)}
    assert manifest.refused_kinds == {}
    assert manifest.preprocessing == loaded.preprocessing
    assert isinstance(manifest.preprocessing, TextPreprocessing)
    assert (manifest.preprocessing.max_tokens, manifest.preprocessing.max_positions) == (48, 64)
    assert (manifest.preprocessing.pooling, manifest.preprocessing.normalize) == ("mean", False)
    assert manifest.versions["edge-prompt"] == __version__
    assert manifest.versions["torch"] == version("torch")


@pytest.mark.parametrize("name", ["tiny_bundle", "tiny_classifier_bundle", "tiny_tagger_bundle"])
def test_the_manifest_gives_the_parity_that_was_measured(name: str, request: pytest.FixtureRequest) -> None:
    parity = read_bundle(request.getfixturevalue(name)).manifest.parity
    assert parity["tolerance"] == TOLERANCE
    for engine in ("onnxruntime", "openvino"):
        assert all(parity[engine][figure] <= TOLERANCE for figure in ("torch", "length_0", "mixed_batch"))
        assert parity[engine]["effect"].keys() == {"soft", "prefix"}
        assert all(effect > 1e-3 for effect in parity[engine]["effect"].values())


@pytest.mark.parametrize(
    ("name", "task"),
    [("tiny_classifier_bundle", "text-classification"), ("tiny_tagger_bundle", "token-classification")],
)
def test_the_head_of_a_checkpoint_is_exported_with_its_labels(
    name: str, task: str, request: pytest.FixtureRequest
) -> None:
    backbone = read_bundle(request.getfixturevalue(name)).manifest.backbone
    assert backbone.task == task
    assert backbone.labels == ("red", "green", "blue")


def test_no_path_of_the_machine_is_in_the_manifest(bundle: Bundle, tiny_backbone: Path) -> None:
    text = (bundle.folder / MANIFEST_NAME).read_text()
    assert str(tiny_backbone.parent) not in text
    assert str(Path.cwd()) not in text


def test_a_bundle_runs_where_it_was_moved_to(bundle: Bundle, engine: str, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "bundle"
    shutil.copytree(bundle.folder, moved)
    tokens = {"input_ids": np.array([[2, 7, 8, 3]])}
    here, there = (Runtime(folder, engine).embed(tokens) for folder in (bundle.folder, moved))
    np.testing.assert_array_equal(here, there)


def test_one_format_and_what_sentence_transformers_says(tiny_backbone: Path, tmp_path: Path, target: Path) -> None:
    source = tmp_path / "encoder"
    shutil.copytree(tiny_backbone, source)
    (source / "1_Pooling").mkdir()
    (source / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    (source / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 20}))
    (source / "modules.json").write_text(json.dumps([{"type": "sentence_transformers.models.Normalize"}]))
    bundle = export_backbone(source, target, formats=("openvino", "openvino"))
    assert tuple(bundle.manifest.graphs) == ("openvino",)
    assert bundle.manifest.parity.keys() == {"tolerance", "openvino"}
    assert isinstance(bundle.manifest.preprocessing, TextPreprocessing)
    assert bundle.manifest.preprocessing.pooling == "cls"
    assert bundle.manifest.preprocessing.max_tokens == 20
    assert bundle.manifest.preprocessing.normalize
    runtime = Runtime(target)
    tokens = {"input_ids": np.array([[2, 7, 8, 3]])}
    outputs = runtime.infer(tokens)
    np.testing.assert_allclose(outputs["features"], outputs["last_hidden_state"][:, 0], atol=1e-6)
    assert np.linalg.norm(runtime.embed(tokens)) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("formats", [(), ("tflite",), ("onnx", "ONNX")])
def test_an_unknown_format_is_refused(tiny_backbone: Path, target: Path, formats: Sequence[str]) -> None:
    with pytest.raises(InputError, match="expected one or more of onnx, openvino"):
        export_backbone(tiny_backbone, target, formats=formats)
    assert_nothing_left(target)


def test_an_existing_bundle_is_not_overwritten(tiny_backbone: Path, target: Path) -> None:
    target.mkdir()
    (target / MANIFEST_NAME).write_text("mine")
    with pytest.raises(WriteError, match="already exists"):
        export_backbone(tiny_backbone, target)
    assert (target / MANIFEST_NAME).read_text() == "mine"
    assert [path.name for path in target.parent.iterdir()] == ["bundle"]


def test_an_existing_file_is_not_overwritten(tiny_backbone: Path, target: Path) -> None:
    target.write_text("mine")
    with pytest.raises(WriteError, match="already exists"):
        export_backbone(tiny_backbone, target)
    assert target.read_text() == "mine"


def test_a_backbone_that_cannot_be_loaded_leaves_nothing_behind(tmp_path: Path, target: Path) -> None:
    with pytest.raises(BackboneError):
        export_backbone(tmp_path / "nowhere", target)
    assert_nothing_left(target)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, RuntimeError])
def test_an_export_that_is_interrupted_leaves_nothing_behind(
    error: type[BaseException], tiny_backbone: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_module: ConditionedModule, folder: Path, _metadata: object) -> GraphFiles:
        (folder / "model.onnx").write_bytes(b"half")
        raise error

    monkeypatch.setitem(FORMATS, "onnx", Format("onnxruntime", interrupted, shared_form))
    with pytest.raises(error):
        export_backbone(tiny_backbone, target, formats=("onnx",))
    assert_nothing_left(target)


def test_an_export_whose_parity_cannot_be_measured_leaves_nothing_behind(
    tiny_backbone: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[set[str]] = []

    def failing(bundle: Bundle, *_others: object) -> dict[str, Any]:
        seen.append({path.name for path in bundle.folder.iterdir()})
        raise ParityError(found="a difference", wanted="none", remedy="choose another backbone")

    monkeypatch.setattr(export, "measure_parity", failing)
    with pytest.raises(ParityError):
        export_backbone(tiny_backbone, target, formats=("openvino",))
    assert seen[0] >= {MANIFEST_NAME, "openvino_model.xml", "config.json", "tokenizer.json"}
    assert_nothing_left(target)


def refused(source: Path, target: Path) -> EdgePromptError:
    with pytest.raises(ParityError) as caught:
        export_backbone(source, target, formats=("openvino",))
    assert_nothing_left(target)
    return caught.value


@pytest.mark.parametrize("kind", ["soft", "prefix"])
def test_a_network_that_ignores_a_kind_is_not_exported(
    kind: str, tiny_backbone: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = ConditionedTextEncoder.forward

    def ignoring(
        self: ConditionedTextEncoder,
        input_ids: Tensor,
        attention_mask: Tensor,
        soft_prompt: Tensor,
        prefix: Tensor,
        token_type_ids: Tensor,
    ) -> tuple[Tensor, ...]:
        lengths = {"prefix": prefix.shape[4], "soft": soft_prompt.shape[1]}
        prefix_mask, soft_mask = attention_mask[:, : lengths["prefix"]], attention_mask[:, lengths["prefix"] :]
        soft_mask, token_mask = soft_mask[:, : lengths["soft"]], soft_mask[:, lengths["soft"] :]
        masks = {"prefix": prefix_mask, "soft": soft_mask}
        masks[kind] = masks[kind] * 0
        mask = torch.cat([masks["prefix"], masks["soft"], token_mask], 1)
        return forward(self, input_ids, mask, soft_prompt, prefix, token_type_ids)

    monkeypatch.setattr(ConditionedTextEncoder, "forward", ignoring)
    assert f"a {kind} prompt changes the outputs by only" in str(refused(tiny_backbone, target))


def test_a_network_whose_features_are_off_by_something_is_not_exported(
    tiny_backbone: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = ConditionedTextEncoder.forward

    def offset(self: ConditionedTextEncoder, **inputs: Tensor) -> tuple[Tensor, ...]:
        features, *others = forward(self, **inputs)
        return features + 1e-2, *others

    monkeypatch.setattr(ConditionedTextEncoder, "forward", offset)
    assert "without a prompt differs from the original network" in str(refused(tiny_backbone, target))


def test_a_network_that_mixes_padding_into_its_tokens_is_not_exported(
    checkpoint: Callable[..., Path], target: Path
) -> None:
    message = str(refused(checkpoint("convbert"), target))
    assert "ConvBertModel on openvino" in message
    assert "differs from the original network" in message


def test_kinds_are_those_that_the_network_takes(conditioned: Callable[..., ConditionedTextEncoder]) -> None:
    both, soft_only = conditioned("qwen3"), conditioned("deberta-v2")
    assert both.kinds == {"soft": (None, 32), "prefix": (2, 2, 2, None, 8)}
    assert both.refused_kinds == {}
    assert soft_only.kinds == {"soft": (None, 32)}
    assert soft_only.refused_kinds == {"prefix": "DebertaV2Model does not dispatch its attention"}
