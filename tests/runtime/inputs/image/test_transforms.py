from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_prompt.base.errors import InputError, ManifestError, MissingFileError
from edge_prompt.formats.image_settings import ImageSettings, output_size
from edge_prompt.untrusted.json_fields import Fields
from edge_prompt.untrusted.records import read_record
from edge_prompt_export.modalities.image.processors import settings_of
from edge_prompt_runtime.inputs.image import ImageSizes, prepare_image, prepare_images, preprocess

Picture = Callable[[int, int], Image.Image]
ProcessorOf = Callable[..., Any]

SIZES = [(1, 1), (7, 5), (33, 1), (30, 40), (40, 30), (224, 224), (256, 257), (300, 20), (20, 300), (480, 640)]

CASES: list[tuple[str, dict[str, Any]]] = [
    ("ViT", {}),
    ("ViT", {"size": 50, "default_to_square": False}),
    ("ViT", {"size": [40, 60]}),
    ("ViT", {"size": {"shortest_edge": 30, "longest_edge": 45}}),
    ("ViT", {"size": {"max_height": 60, "max_width": 50}}),
    ("ViT", {"size": {"shortest_edge": 40}, "do_center_crop": True, "crop_size": 31}),
    ("ViT", {"size": 40, "do_center_crop": True, "crop_size": {"height": 61, "width": 30}}),
    ("ViT", {"do_resize": False}),
    ("ViT", {"do_resize": False, "do_pad": True, "pad_size": {"height": 480, "width": 640}}),
    ("ViT", {"do_normalize": False}),
    ("ViT", {"do_rescale": False, "image_mean": [120, 110, 100], "image_std": 60.0}),
    ("ViT", {"rescale_factor": 1 / 127.5, "image_mean": 0.25}),
    *(("ViT", {"resample": resample, "size": 40}) for resample in range(6)),
    ("DeiT", {}),
    ("Bit", {}),
    ("Bit", {"size": {"shortest_edge": 256}}),
    ("Bit", {"size": 100, "crop_size": 90}),
    ("CLIP", {}),
    ("CLIP", {"do_resize": False}),
    ("Siglip", {}),
    ("Siglip", {"size": 40}),
    ("Beit", {}),
    ("Beit", {"do_center_crop": True, "size": 256, "do_reduce_labels": True}),
    ("Segformer", {}),
    ("ConvNext", {}),
    ("ConvNext", {"size": {"shortest_edge": 224}}),
    ("ConvNext", {"size": 224, "crop_pct": 0.95}),
    ("DPT", {}),
    ("DPT", {"size": {"height": 182, "width": 182}, "keep_aspect_ratio": True, "ensure_multiple_of": 14}),
    ("DPT", {"size": {"height": 100, "width": 130}, "ensure_multiple_of": 32}),
    ("DPT", {"size": 48, "ensure_multiple_of": 32}),
    ("DPT", {"do_pad": True, "size_divisor": 50}),
    ("DPT", {"do_pad": True, "size_divisor": 37, "do_resize": False}),
    ("DPT", {"do_pad": True}),
    ("Yolos", {}),
    ("Yolos", {"size": {"shortest_edge": 64, "longest_edge": 330}}),
    ("Yolos", {"size": 64, "max_size": 90}),
    ("Yolos", {"size": 64}),
    ("Yolos", {"size": {"height": 50, "width": 70}}),
    ("Yolos", {"size": {"max_height": 60, "max_width": 50}, "do_pad": False}),
    ("Yolos", {"size": {"max_height": 1056, "max_width": 60}, "pad_size": {"height": 1060, "width": 70}}),
]

CASE_NAMES = [f"{family}-{number}" for number, (family, _) in enumerate(CASES)]


def settings_for(family: str, **fields: Any) -> ImageSettings:
    return settings_of({"image_processor_type": f"{family}ImageProcessor", **fields})


@pytest.mark.parametrize(("family", "fields"), CASES, ids=CASE_NAMES)
def test_pixel_values_are_those_of_transformers_to_the_last_bit(
    processor_of: ProcessorOf, picture: Picture, family: str, fields: dict[str, Any]
) -> None:
    processor, settings = processor_of(family, **fields), settings_for(family, **fields)
    for size in SIZES:
        image = picture(*size)
        try:
            expected = processor(image, return_tensors="np")["pixel_values"][0]
        except ValueError:  # a side of length 0
            with pytest.raises(InputError, match=f"height {size[0]} and width {size[1]}, resized to"):
                preprocess(image, settings)
            continue
        found = preprocess(image, settings)
        np.testing.assert_array_equal(found, expected.astype(np.float32), err_msg=str(size))
        assert found.dtype == np.float32
        assert found.shape == (3, *output_size(settings, *size))
        assert settings.fixed_size in {None, found.shape[1:]}


@pytest.mark.parametrize(("family", "fields"), CASES, ids=CASE_NAMES)
def test_what_a_processor_writes_of_itself_gives_the_same_settings(
    processor_of: ProcessorOf, tmp_path: Path, family: str, fields: dict[str, Any]
) -> None:
    processor = processor_of(family, **fields)
    processor.save_pretrained(tmp_path)
    written = json.loads((tmp_path / "preprocessor_config.json").read_text(encoding="utf-8"))
    settings = settings_for(family, **fields)
    assert settings_of(written) == settings
    assert settings_of(processor.to_dict()) == settings


@pytest.mark.parametrize(("family", "fields"), CASES, ids=CASE_NAMES)
def test_settings_in_a_manifest_are_read_as_they_were_written(family: str, fields: dict[str, Any]) -> None:
    settings = settings_for(family, **fields)
    read = read_record(ImageSettings, Fields(json.loads(json.dumps(asdict(settings))), "a manifest", ManifestError))
    assert read == settings
    assert asdict(read) == asdict(settings)


@pytest.mark.parametrize(
    ("family", "fields"),
    [
        ("ViT", {"do_pad": True, "size": {"shortest_edge": 40}}),
        ("Yolos", {"size": {"shortest_edge": 64, "longest_edge": 300}}),
        ("Yolos", {"size": 64, "max_size": 90, "pad_size": {"height": 100, "width": 110}}),
        ("CLIP", {}),
        ("DPT", {"do_pad": True, "size_divisor": 50}),
    ],
)
def test_a_batch_is_that_of_transformers(
    processor_of: ProcessorOf, picture: Picture, family: str, fields: dict[str, Any]
) -> None:
    images = [picture(*size) for size in [(48, 64), (90, 70), (64, 64), (64, 48)]]
    expected = processor_of(family, **fields)(images, return_tensors="np")
    found, sizes = prepare_images(images, settings_for(family, **fields))
    np.testing.assert_array_equal(found, expected["pixel_values"])
    assert [size.original for size in sizes] == [(image.height, image.width) for image in images]
    if "pixel_mask" in expected:
        mask = np.zeros_like(expected["pixel_mask"])
        for row, size in enumerate(sizes):
            mask[row, : size.content[0], : size.content[1]] = 1
        np.testing.assert_array_equal(mask, expected["pixel_mask"])
        assert not mask.all()


def test_a_batch_is_its_images_alone(picture: Picture) -> None:
    images = [picture(48, 64), picture(90, 70)]
    settings = settings_for("DeiT")
    pixel_values, sizes = prepare_images(images, settings)
    assert pixel_values.shape == (2, 3, 224, 224)
    for row, image in enumerate(images):
        alone = prepare_image(image, settings)
        np.testing.assert_array_equal(pixel_values[row], alone.pixel_values)
        assert sizes[row] == alone.sizes


@pytest.mark.parametrize(
    ("family", "fields", "sizes"),
    [
        ("ViT", {}, ImageSizes((30, 40), (224, 224), (0, 0))),
        ("CLIP", {"crop_size": {"height": 20, "width": 300}}, ImageSizes((30, 40), (20, 300), (0, 0))),
        ("Yolos", {"size": {"height": 50, "width": 70}}, ImageSizes((30, 40), (50, 70), (0, 0))),
        ("DPT", {"size": 30, "do_pad": True, "size_divisor": 16}, ImageSizes((30, 40), (30, 30), (1, 1))),
        ("DPT", {"do_resize": False, "do_pad": True, "size_divisor": 7}, ImageSizes((30, 40), (30, 40), (2, 1))),
    ],
)
def test_intermediate_sizes_are_known(picture: Picture, family: str, fields: dict[str, Any], sizes: ImageSizes) -> None:
    pixel_values, found = prepare_image(picture(30, 40), settings_for(family, **fields))
    assert found == sizes
    (height, width), (top, left) = sizes.content, sizes.origin
    outside = np.ones(pixel_values.shape[1:], bool)
    outside[top : top + height, left : left + width] = False
    assert not pixel_values[:, outside].any()


def test_images_of_different_sizes_are_refused_where_nothing_pads(picture: Picture) -> None:
    with pytest.raises(InputError, match="image 0 is resized to 30 x 40 and image 2 to 40 x 30; expected images of"):
        prepare_images([picture(30, 40), picture(30, 40), picture(40, 30)], settings_for("ViT", do_resize=False))


def test_a_batch_whose_padding_would_fill_the_memory_is_refused() -> None:
    settings = settings_for("ViT", do_resize=False, do_pad=True)
    images = [np.zeros((1, 200_000), np.uint8), np.zeros((200_000, 1), np.uint8)]
    with pytest.raises(InputError, match="a batch, padded to height 200000 and width 200000"):
        prepare_images(images, settings)


def test_an_image_larger_than_its_padding_is_refused(picture: Picture) -> None:
    settings = settings_for("ViT", do_resize=False, do_pad=True, pad_size={"height": 30, "width": 39})
    with pytest.raises(InputError, match="height 30 and width 40 after resizing; expected at most 30 and 39"):
        preprocess(picture(30, 40), settings)


def test_an_image_that_would_grow_beyond_all_bounds_is_refused_before_it_does() -> None:
    with pytest.raises(InputError, match="height 1 and width 100000, resized to 224 and 22400000"):
        preprocess(np.zeros((1, 100_000), np.uint8), settings_for("CLIP"))


@pytest.mark.parametrize("images", [[], (), np.zeros((0, 4, 4, 3), np.uint8)])
def test_no_image_is_refused(images: Any) -> None:
    with pytest.raises(InputError, match="the list of images is empty; expected a list of images"):
        prepare_images(images, settings_for("ViT"))


@pytest.mark.parametrize(
    "images", ["cat.png", "", b"\xff\xd8", Path("cat.png"), Image.new("RGB", (4, 4)), np.zeros((4, 5, 3), np.uint8), 3]
)
def test_one_image_is_no_list_of_images(images: Any) -> None:
    with pytest.raises(InputError, match=r"(got one \w+|the list of images is empty); expected a list of images"):
        prepare_images(images, settings_for("ViT"))


def test_an_array_of_images_is_a_batch(picture: Picture) -> None:
    pixels = np.stack([np.asarray(picture(30, 40)), np.asarray(picture(30, 40))[::-1]])
    settings = settings_for("ViT")
    np.testing.assert_array_equal(prepare_images(pixels, settings)[0], prepare_images(list(pixels), settings)[0])


def test_errors_name_the_row(picture: Picture, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="image 1 is not an image"):
        prepare_images([picture(4, 4), b"none"], settings_for("ViT"))
    with pytest.raises(MissingFileError, match=r"none\.png: no such file"):
        prepare_images([picture(4, 4), tmp_path / "none.png"], settings_for("ViT"))


MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"]
FORMAT_OF_MODE = {"CMYK": "tiff", "YCbCr": "jpeg"}


@pytest.mark.parametrize("family", ["ViT", "CLIP"])
@pytest.mark.parametrize("mode", MODES)
def test_a_file_of_any_mode_is_as_transformers_has_it(
    processor_of: ProcessorOf, picture: Picture, tmp_path: Path, mode: str, family: str
) -> None:
    path = tmp_path / f"picture.{FORMAT_OF_MODE.get(mode, 'png')}"
    image = picture(40, 60)
    if mode in {"LA", "RGBA"}:
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    image.convert(mode).save(path)
    expected = processor_of(family)(str(path), return_tensors="np")["pixel_values"][0]
    for given in (path, str(path), path.read_bytes()):
        np.testing.assert_array_equal(preprocess(given, settings_for(family)), expected)


@pytest.mark.parametrize("transparency", [7, bytes(range(256))])
def test_a_palette_with_transparency_is_as_transformers_has_it(
    processor_of: ProcessorOf, picture: Picture, tmp_path: Path, transparency: int | bytes
) -> None:
    path = tmp_path / "picture.png"
    picture(40, 60).quantize(256).save(path, transparency=transparency)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about what transformers does
        expected = processor_of("ViT")(str(path), return_tensors="np")["pixel_values"][0]
    np.testing.assert_array_equal(preprocess(path, settings_for("ViT")), expected)


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("suffix", ["jpeg", "png", "webp", "tiff"])
def test_a_turned_photo_is_as_transformers_has_it(
    processor_of: ProcessorOf, picture: Picture, tmp_path: Path, orientation: int, suffix: str
) -> None:
    path = tmp_path / f"photo.{suffix}"
    image = picture(40, 60)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)
    expected = processor_of("ViT")(str(path), return_tensors="np")["pixel_values"][0]
    found, sizes = prepare_image(path, settings_for("ViT"))
    np.testing.assert_array_equal(found, expected)
    assert sizes.original == ((60, 40) if orientation in {5, 6, 7, 8} else (40, 60))


@pytest.mark.parametrize("suffix", ["jpeg", "png", "webp", "bmp", "gif", "tiff", "ppm"])
def test_a_file_of_any_format_is_as_transformers_has_it(
    processor_of: ProcessorOf, picture: Picture, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"picture.{suffix}"
    others = [picture(40, 60).rotate(180)] if suffix in {"gif", "tiff", "webp"} else []
    picture(40, 60).save(path, append_images=others, save_all=bool(others))
    with Image.open(path) as image:  # given a path, transformers leaves the file open
        expected = processor_of("Siglip")(image, return_tensors="np")["pixel_values"][0]
    np.testing.assert_array_equal(preprocess(path, settings_for("Siglip")), expected)
