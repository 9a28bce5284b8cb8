"""Image networks of several architectures, exported for both engines; the export itself compares them with torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from edge_prompt import Bundle, read_bundle, write_prompt
from edge_prompt.base.errors import BackboneError
from edge_prompt.formats.preprocessing import ImagePreprocessing
from edge_prompt_export import export_backbone
from edge_prompt_export.modalities.registry import load_backbone
from edge_prompt_export.parity import LEAST_EFFECT
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.reference import TOLERANCE, check_reference, difference
from tests.conftest import BuildOnce

Network = Callable[..., Any]

EXPORTED = ("dinov2-registers", "clip", "siglip", "beit-segments")
"""Beside the ViT with a head, the YOLOS and the SegFormer that many tests stand on."""

IMAGES = "image-feature-extraction"
ALL_KINDS = ["soft", "deep", "prefix", "pixel"]
CLIP_TEXT = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2} | {
    "vocab_size": 99,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def whole_clip(tower: Any) -> Any:
    """A network for images and texts around a vision tower."""
    config = transformers.CLIPConfig(vision_config=tower.config.to_dict(), text_config=CLIP_TEXT)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        whole = transformers.CLIPModel(config)
    whole.vision_model.load_state_dict(tower.state_dict())
    return whole


@pytest.fixture
def exported(build_once: BuildOnce, image_network: Network) -> Callable[[str], Bundle]:
    """The bundle of a tiny image network, exported once for all workers."""

    def build(name: str, folder: Path) -> None:
        network = image_network(name)
        (whole_clip(network) if name == "clip" else network).save_pretrained(source_of(folder))
        if "dinov2" in name:  # its images are smaller than those that its positions were learned on
            settings = '{"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}}'
            (source_of(folder) / "preprocessor_config.json").write_text(settings)
        export_backbone(source_of(folder), folder, task=IMAGES if name == "clip" else None)

    return lambda name: read_bundle(build_once(f"vision_{name}", lambda folder: build(name, folder)))


def source_of(bundle: Path) -> Path:
    return bundle.with_name(f"{bundle.name}_backbone")


def images_for(bundle: Bundle, batch: int = 3) -> np.ndarray[Any, np.dtype[np.float32]]:
    preprocessing = bundle.manifest.preprocessing
    assert isinstance(preprocessing, ImagePreprocessing)
    size = (batch, preprocessing.channels, preprocessing.height or 32, preprocessing.width or 64)
    return np.random.default_rng(0).standard_normal(size, dtype=np.float32)


def assert_measured(parity: Mapping[str, Any], kinds: list[str]) -> None:
    assert parity.keys() == {"tolerance", "onnxruntime", "openvino"}
    for engine in ("onnxruntime", "openvino"):
        figures = dict(parity[engine])
        effect = figures.pop("effect")
        assert figures.keys() == {"torch", "length_0", "mixed_batch"}
        assert max(figures.values()) <= TOLERANCE
        assert list(effect) == kinds
        assert min(effect.values()) > LEAST_EFFECT


@pytest.mark.parametrize("name", EXPORTED)
def test_a_network_is_exported_with_every_kind_on_both_engines(name: str, exported: Callable[[str], Bundle]) -> None:
    bundle = exported(name)
    assert_measured(bundle.manifest.parity, ALL_KINDS)
    assert list(bundle.manifest.kinds) == ALL_KINDS
    assert bundle.manifest.refused_kinds == {}
    assert bundle.manifest.fold_graphs.keys() == {"onnxruntime", "openvino"}
    for engine in ("onnxruntime", "openvino"):
        assert max(check_reference(bundle, engine).values()) <= TOLERANCE


@pytest.mark.parametrize("name", EXPORTED)
def test_an_engine_without_a_prompt_gives_what_transformers_gives(
    name: str, exported: Callable[[str], Bundle], image_network: Network, engine: str
) -> None:
    bundle = exported(name)
    images = images_for(bundle)
    with torch.no_grad():
        reference = image_network(name)(torch.from_numpy(images))
    found = Runtime(bundle.folder, engine).infer({"pixel_values": images})
    own = {output: array for output, array in found.items() if output != "features"}
    assert own
    assert difference(own, {output: reference[output].numpy() for output in own}) <= TOLERANCE


@pytest.mark.parametrize(
    ("name", "task", "pooling", "outputs"),
    [
        ("dinov2-registers", IMAGES, "cls", ("features", "last_hidden_state")),
        ("clip", IMAGES, "pooler", ("features", "last_hidden_state")),
        ("siglip", IMAGES, "pooler", ("features", "last_hidden_state")),
        ("beit-segments", "semantic-segmentation", "mean", ("features", "logits")),
    ],
)
def test_the_manifest_says_what_the_network_is(
    name: str, task: str, pooling: str, outputs: tuple[str, ...], exported: Callable[[str], Bundle]
) -> None:
    manifest = exported(name).manifest
    assert (manifest.backbone.task, manifest.backbone.feature_size) == (task, 32)
    preprocessing = manifest.preprocessing
    assert isinstance(preprocessing, ImagePreprocessing)
    assert (preprocessing.channels, preprocessing.height, preprocessing.width) == (3, 32, 32)
    assert (preprocessing.pooling, preprocessing.settings is None) == (pooling, "dinov2" not in name)
    for graph in manifest.graphs.values():
        assert graph.inputs == ("pixel_values", "soft_prompt", "prefix", "pixel_prompt")
        assert graph.outputs == outputs
    assert len(manifest.backbone.labels) == (5 if name == "beit-segments" else 0)


def test_a_vit_with_its_head(tiny_image_bundle: Path) -> None:
    manifest = read_bundle(tiny_image_bundle).manifest
    assert_measured(manifest.parity, ALL_KINDS)
    assert manifest.backbone.task == "image-classification"
    assert manifest.backbone.labels == ("red", "green", "blue")


def test_a_yolos_on_images_of_any_size(tiny_detector_bundle: Path, engine: str) -> None:
    bundle = read_bundle(tiny_detector_bundle)
    assert_measured(bundle.manifest.parity, ["soft", "deep", "prefix"])
    assert bundle.manifest.refused_kinds == {"pixel": "its images vary in size"}
    runtime = Runtime(bundle.folder, engine)
    network = transformers.YolosForObjectDetection.from_pretrained(source_of(bundle.folder)).eval()
    for size in ((32, 48), (64, 48), (96, 32)):
        images = np.random.default_rng(0).standard_normal((2, 3, *size), dtype=np.float32)
        with torch.no_grad():
            reference = network(torch.from_numpy(images))
        found = runtime.infer({"pixel_values": images})
        assert found["features"].shape == (2, 32)
        for output in ("logits", "pred_boxes"):
            assert difference({output: found[output]}, {output: reference[output].numpy()}) <= TOLERANCE


def test_a_segformer_takes_pixel_prompts_only(tiny_segmenter_bundle: Path) -> None:
    manifest = read_bundle(tiny_segmenter_bundle).manifest
    assert_measured(manifest.parity, ["pixel"])
    assert manifest.refused_kinds.keys() == {"soft", "deep", "prefix"}
    assert manifest.fold_graphs == {}


def test_positions_for_one_size_are_a_constant_of_the_graph(exported: Callable[[str], Bundle]) -> None:
    import onnx

    graph = onnx.load(exported("dinov2-registers").folder / "model.onnx", load_external_data=False).graph
    assert "Resize" not in {node.op_type for node in graph.node}


def test_the_tower_of_a_network_for_images_and_texts_is_the_tower_by_itself(
    exported: Callable[[str], Bundle], image_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    bundle = exported("clip")
    assert bundle.manifest.backbone.architecture == "CLIPVisionModel"
    whole = load_backbone(str(source_of(bundle.folder)), IMAGES)
    alone = load_backbone(str(image_checkpoint("clip")))
    assert bundle.manifest.backbone.fingerprint == whole.fingerprint == alone.fingerprint
    assert whole.num_parameters == alone.num_parameters == bundle.manifest.backbone.num_parameters
    assert whole.module.kinds == alone.module.kinds
    path = tmp_path / "task.npy"  # tuned on the tower, run in the bundle of the whole
    write_prompt(path, alone.module.example_prompt("soft", 3, seed=1).numpy(), "soft", alone.fingerprint)
    Runtime(bundle.folder, "onnxruntime").load("task", path)


def test_a_network_for_images_and_texts_is_refused_until_a_task_says_which(
    exported: Callable[[str], Bundle],
) -> None:
    with pytest.raises(
        BackboneError, match=r"\(clip\) takes images and texts, .* Pass --task image-feature-extraction"
    ):
        load_backbone(str(source_of(exported("clip").folder)))


@pytest.mark.parametrize("name", ["clip-classes", "siglip-classes"])
def test_a_head_for_images_says_which_and_its_tower_the_size(name: str, image_checkpoint: Callable[..., Path]) -> None:
    backbone = load_backbone(str(image_checkpoint(name)))
    assert backbone.module.task == "image-classification"
    assert isinstance(backbone.preprocessing, ImagePreprocessing)
    assert (backbone.preprocessing.height, backbone.preprocessing.width) == (32, 32)
    assert "pixel" in backbone.module.kinds


@pytest.mark.parametrize(("pooling", "feature"), [("mean", "mean"), ("cls", "cls"), (None, "pooler")])
def test_a_pooling_is_chosen(pooling: str | None, feature: str, image_checkpoint: Callable[..., Path]) -> None:
    backbone = load_backbone(str(image_checkpoint("clip")), pooling=pooling)
    assert isinstance(backbone.preprocessing, ImagePreprocessing)
    assert backbone.preprocessing.pooling == feature


@pytest.mark.parametrize(("name", "pooling"), [("siglip", "cls"), ("vit_msn", "pooler"), ("vit", "median")])
def test_a_pooling_that_is_not_there_is_refused_before_anything_is_written(
    name: str, pooling: str, image_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    source = image_checkpoint(name)
    with pytest.raises(BackboneError, match=f"pooling by '{pooling}'"):
        export_backbone(source, tmp_path / "bundle", pooling=pooling)
    assert {path.name for path in tmp_path.iterdir()} == {name}
