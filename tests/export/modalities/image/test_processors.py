from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_prompt.base.errors import EdgePromptError, ManifestError
from edge_prompt.formats.image_settings import ImageSettings
from edge_prompt_export.modalities.image.processors import FAMILIES, settings_of


def of(family: str, **fields: Any) -> ImageSettings:
    return settings_of({"image_processor_type": f"{family}ImageProcessor", **fields})


# as published with the networks, except for "processor_class", which is removed from all of them
PUBLISHED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "google/vit-base-patch16-224": (
        {"do_normalize": True, "do_resize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": 224,
         "feature_extractor_type": "ViTFeatureExtractor"},
        {"resize": "exact", "size": (224, 224), "resample": 2},
    ),
    "facebook/dinov2-small": (
        {"crop_size": {"height": 224, "width": 224}, "do_center_crop": True, "do_convert_rgb": True,
         "do_normalize": True, "do_rescale": True, "do_resize": True, "image_mean": [0.485, 0.456, 0.406],
         "image_processor_type": "BitImageProcessor", "image_std": [0.229, 0.224, 0.225], "resample": 3,
         "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 256}},
        {"resize": "shortest_edge", "size": (256,), "crop_size": (224, 224), "resample": 3},
    ),
    "openai/clip-vit-base-patch32": (
        {"crop_size": 224, "do_center_crop": True, "do_normalize": True, "do_resize": True,
         "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": [0.48145466, 0.4578275, 0.40821073],
         "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3, "size": 224},
        {"resize": "shortest_edge", "size": (224,), "crop_size": (224, 224), "resample": 3},
    ),
    "hustvl/yolos-tiny": (
        {"do_normalize": True, "do_resize": True, "feature_extractor_type": "YolosFeatureExtractor",
         "format": "coco_detection", "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
         "max_size": 1333, "size": 512},
        {"resize": "two_edges_of_16", "size": (512, 1333), "pad": "batch"},
    ),
    "depth-anything/Depth-Anything-V2-Small-hf": (
        {"do_normalize": True, "do_pad": False, "do_rescale": True, "do_resize": True, "ensure_multiple_of": 14,
         "image_mean": [0.485, 0.456, 0.406], "image_processor_type": "DPTImageProcessor",
         "image_std": [0.229, 0.224, 0.225], "keep_aspect_ratio": True, "resample": 3,
         "rescale_factor": 0.00392156862745098, "size": {"height": 518, "width": 518}, "size_divisor": None},
        {"resize": "multiples_keeping_aspect", "size": (518, 518), "multiple": 14, "pad": "none", "pad_size": ()},
    ),
    "nvidia/segformer-b0": (
        {"do_normalize": True, "do_resize": True, "feature_extractor_type": "SegformerFeatureExtractor",
         "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "reduce_labels": True,
         "resample": 2, "size": 512},
        {"resize": "exact", "size": (512, 512), "crop_size": ()},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_files_of_published_networks_are_understood(name: str) -> None:
    config, expected = PUBLISHED[name]
    settings = settings_of(config)
    assert {field: getattr(settings, field) for field in expected} == expected
    assert settings.rescale_factor == 1 / 255
    assert list(settings.image_mean) == config["image_mean"]
    assert list(settings.image_std) == config["image_std"]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "field", ["do_resize", "do_rescale", "do_normalize", "size", "resample", "image_mean", "do_pad"]
)
def test_null_means_the_default_of_the_family(family: str, field: str) -> None:
    assert of(family, **{field: None}) == of(family)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_processor_is_known_by_each_of_its_names(family: str) -> None:
    settings = of(family)
    for name in (f"{family}ImageProcessorFast", f"{family}ImageProcessorPil"):
        assert settings_of({"image_processor_type": name}) == settings
    assert settings_of({"feature_extractor_type": f"{family}FeatureExtractor"}) == settings


@pytest.mark.parametrize("family", FAMILIES)
def test_families_are_named_as_in_transformers(family: str) -> None:
    name = family.lower()
    assert hasattr(
        import_module(f"transformers.models.{name}.image_processing_pil_{name}"), f"{family}ImageProcessorPil"
    )


@pytest.mark.parametrize(
    "name",
    ["Siglip2ImageProcessor", "DetrImageProcessor", "DINOv3ViTImageProcessorFast", "ImageProcessor", "vit", "", "ViTX"],
)
def test_an_unknown_processor_is_refused(name: str) -> None:
    with pytest.raises(ManifestError, match=r"preprocessor_config\.json: .*expected one of ViTImageProcessor, DeiT"):
        settings_of({"image_processor_type": name})


def test_a_file_that_names_no_processor_is_refused() -> None:
    with pytest.raises(ManifestError, match=r"cfg: no 'image_processor_type'; expected one of ViT"):
        settings_of({"size": 224}, "cfg")


@pytest.mark.parametrize(
    ("family", "fields", "found"),
    [
        ("ViT", {"auto_map": {"AutoImageProcessor": "theirs.Processor"}}, "'auto_map' is"),
        ("ViT", {"do_flip_channel_order": True}, "'do_flip_channel_order' is True"),
        ("CLIP", {"use_square_size": True}, "'use_square_size' is True"),
        ("DeiT", {"crop_pct": 0.9}, "'crop_pct' is 0.9"),
        ("ViT", {"keep_aspect_ratio": True}, "'keep_aspect_ratio' is True"),
        ("Beit", {"do_pad": True}, "'do_pad' is true; expected a step that this image processor has"),
        ("Segformer", {"do_center_crop": True}, "'do_center_crop' is true"),
        ("DPT", {"do_center_crop": True}, "'do_center_crop' is true"),
        ("Yolos", {"do_center_crop": True}, "'do_center_crop' is true"),
        ("ConvNext", {"size": 224, "do_center_crop": True, "crop_size": 200}, "'do_center_crop' is true"),
        ("ConvNext", {"size": 224, "crop_pct": 0}, "'crop_pct' is 0"),
        ("ConvNext", {"size": 224, "crop_pct": 1e-300}, "a size among"),
        ("ConvNext", {"size": {"height": 224, "width": 224}}, "'size' is .*expected a size of shortest_edge"),
        ("DPT", {"size": {"shortest_edge": 224}}, "'size' is .*expected a size of height and width"),
        ("DPT", {"ensure_multiple_of": 0}, "a size among"),
        ("Yolos", {"size": {"shortest_edge": 224}}, "'size' has a shortest_edge only"),
        ("ViT", {"size": {"longest_edge": 224}}, "'size' is"),
        ("ViT", {"size": {"height": 224}}, "'size' is"),
        ("ViT", {"size": {"height": 224, "width": 224, "depth": 3}}, "'size' is"),
        ("ViT", {"size": {"min_pixels": 224, "max_pixels": 999}}, "'size' is"),
        ("ViT", {"size": {}}, "'size' is {}"),
        ("ViT", {"size": [1, 2, 3]}, "'size' is list"),
        ("ViT", {"size": "224"}, "'size' is str"),
        ("ViT", {"size": True}, "'size' is bool"),
        ("ViT", {"size": 0}, "size: 'height' is 0"),
        ("ViT", {"size": 9000}, "a size among .* from 1 to 8192"),
        ("ViT", {"size": {"height": 224.5, "width": 224}}, "size: 'height' is float"),
        ("ViT", {"do_center_crop": True}, "'crop_size' is None; expected a height and a width"),
        ("CLIP", {"crop_size": {"shortest_edge": 224}}, "'crop_size' is"),
        ("CLIP", {"crop_size": True}, "crop_size: 'height' is bool"),
        ("CLIP", {"crop_size": 0}, "crop_size: 'height' is 0"),
        ("ViT", {"do_pad": True, "pad_size": {"height": 3}}, "'pad_size' is"),
        ("ViT", {"do_resize": 1}, "'do_resize' is int; expected 'do_resize' as bool"),
        ("ViT", {"resample": 9}, "the filter 9"),
        ("ViT", {"resample": "bicubic"}, "'resample' is str"),
        ("ViT", {"image_mean": [0.5, 0.5]}, "'image_mean' is"),
        ("ViT", {"image_mean": "half"}, "'image_mean' is"),
        ("ViT", {"image_std": 0}, "'rescale_factor' .* and 'image_std' "),
        ("ViT", {"rescale_factor": "1/255"}, "'rescale_factor' is str"),
    ],
)
def test_what_is_not_implemented_or_malformed_is_refused(family: str, fields: dict[str, Any], found: str) -> None:
    with pytest.raises(ManifestError, match=f"^preprocessor_config.json: {found}"):
        of(family, **fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"processor_class": "CLIPProcessor", "do_convert_rgb": False, "do_reduce_labels": True, "use_fast": True},
        {"do_flip_channel_order": False, "crop_pct": None},
        {"image_std": [0.5, 0.5, 0.5], "pad_size": {"height": 9, "width": 9}},
        {"crop_size": 5, "do_center_crop": False},
    ],
)
def test_settings_without_effect_are_ignored(fields: dict[str, Any]) -> None:
    assert of("ViT", **fields) == of("ViT")


NAMES = sorted(
    {name for config, _ in PUBLISHED.values() for name in config} | {"pad_size", "crop_pct", "auto_map", "x"}
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 400) | st.integers() | st.floats() | st.sampled_from(["", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["height", "width", "shortest_edge"]), inner)
    ),
    max_leaves=4,
)


@given(st.sampled_from(sorted(FAMILIES)), st.dictionaries(st.sampled_from(NAMES), JSON, max_size=3))
def test_any_file_is_understood_or_refused(family: str, fields: dict[str, Any]) -> None:
    try:
        of(family, **fields)
    except EdgePromptError as error:
        assert isinstance(error, ManifestError)  # noqa: PT017
