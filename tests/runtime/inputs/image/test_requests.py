from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_prompt import Bundle
from edge_prompt.base.errors import InputError, MissingFileError
from edge_prompt.formats.image_settings import ImageSettings
from edge_prompt.formats.manifest import EncoderManifest
from edge_prompt.formats.preprocessing import ImagePreprocessing
from edge_prompt_runtime.execution.network import arrays_of, group_rows
from edge_prompt_runtime.inputs.image import prepare_image
from edge_prompt_runtime.inputs.requests import Request, Requests, open_requests
from edge_prompt_runtime.tasks.task import Task
from tests.conftest import MakeImage

BASE = Task("", "", {}, None, (), "{text}", 0)
HALF = (0.5, 0.5, 0.5)
SQUARE = ImageSettings("exact", (16, 24), 1, 2, (), 1 / 255, HALF, HALF, "none", ())
FREE = ImageSettings("shortest_edge", (16,), 1, 2, (), 1 / 255, HALF, HALF, "batch", ())
IMAGES = np.random.default_rng(0).normal(size=(2, 3, 16, 24)).astype(np.float32)


def reader(bundle: Bundle, settings: ImageSettings | None, height: int | None = 16, width: int | None = 24) -> Requests:
    assert isinstance(bundle.manifest, EncoderManifest)
    preprocessing = ImagePreprocessing(3, height, width, settings, "cls", normalize=False)
    return open_requests(replace(bundle, manifest=replace(bundle.manifest, preprocessing=preprocessing)))


@pytest.fixture
def requests(bundle: Bundle) -> Requests:
    return reader(bundle, SQUARE)


def read(requests: Requests, inputs: Any) -> Request:
    return requests.read(inputs, BASE)


def test_an_image_is_one_and_a_list_several(requests: Requests) -> None:
    image = Image.new("RGB", (2, 2))
    for single in (image, np.asarray(image)):
        request = read(requests, single)
        assert (len(request.tasks), request.single) == (1, True)
    for several in ([image, image], (image, image)):
        request = read(requests, several)
        assert (len(request.tasks), request.single) == (2, False)


def test_every_form_of_an_image_gives_the_same(requests: Requests, make_image: MakeImage) -> None:
    path = make_image("cat", 40, 30)
    picture = Image.open(path).convert("RGB")
    forms = [path, str(path), path.read_bytes(), picture, np.asarray(picture)]
    request = read(requests, forms)
    pixel_values = request.arrays["pixel_values"]
    assert isinstance(pixel_values, np.ndarray)
    assert (len(request.tasks), pixel_values.shape, pixel_values.dtype) == (5, (5, 3, 16, 24), np.dtype(np.float32))
    for row in pixel_values:
        np.testing.assert_array_equal(row, prepare_image(path, SQUARE).pixel_values)
    assert request.sizes == ((40, 30),) * 5


def test_the_size_is_that_of_the_image_as_it_is_looked_at(requests: Requests) -> None:
    turned, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 50)).save(turned, "JPEG", exif=exif)
    assert read(requests, [turned.getvalue()]).sizes == ((30, 50),)


def test_images_of_one_size_are_one_batch_and_of_several_a_list(bundle: Bundle, make_image: MakeImage) -> None:
    requests = reader(bundle, FREE, None, None)
    tall, wide = make_image("tall", 64, 32), make_image("wide", 32, 64)
    alike = read(requests, [tall, tall])
    assert isinstance(alike.arrays["pixel_values"], np.ndarray)
    assert group_rows(alike) == [[0, 1]]
    several = read(requests, [tall, wide, tall])
    assert group_rows(several) == [[0, 2], [1]]
    assert arrays_of(several, [0, 2])["pixel_values"].shape == (2, 3, 32, 16)
    assert arrays_of(several, [1])["pixel_values"].shape == (1, 3, 16, 32)
    assert several.sizes == ((64, 32), (32, 64), (64, 32))


def test_an_image_is_not_padded_for_the_sake_of_others(bundle: Bundle, make_image: MakeImage) -> None:
    requests = reader(bundle, FREE, None, None)
    paths = [make_image("tall", 64, 32), make_image("wide", 32, 64)]
    together = read(requests, paths).arrays["pixel_values"]
    for path, row in zip(paths, together, strict=True):
        np.testing.assert_array_equal(row, read(requests, [path]).arrays["pixel_values"][0])


@pytest.mark.parametrize("broken", [b"no image", None, 3, np.zeros((4, 4, 2), np.uint8)])
def test_what_is_no_image_is_refused(requests: Requests, broken: Any) -> None:
    with pytest.raises(InputError):
        read(requests, [broken])


def test_a_missing_image_is_named(requests: Requests, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"nowhere\.png"):
        read(requests, [tmp_path / "nowhere.png"])


def test_a_backbone_that_did_not_say_how_takes_arrays_only(bundle: Bundle, make_image: MakeImage) -> None:
    requests = reader(bundle, None)
    with pytest.raises(InputError, match=r"without preprocessor_config\.json; expected arrays instead of images"):
        read(requests, [make_image("cat")])
    assert read(requests, {"pixel_values": IMAGES}).tasks == [BASE] * 2


def test_pixel_values_are_taken_as_they_are(requests: Requests) -> None:
    request = read(requests, {"pixel_values": IMAGES})
    assert request.arrays["pixel_values"] is IMAGES
    assert arrays_of(request, range(2))["pixel_values"] is IMAGES
    assert (request.tasks, request.sizes) == ([BASE] * 2, ())
    np.testing.assert_array_equal(arrays_of(request, [1])["pixel_values"], IMAGES[1:])


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_pixel_values_of_another_precision_become_float32(requests: Requests, dtype: Any) -> None:
    taken = read(requests, {"pixel_values": IMAGES.astype(dtype)}).arrays["pixel_values"]
    np.testing.assert_array_equal(taken, IMAGES.astype(dtype).astype(np.float32), strict=True)


def test_pixel_values_of_any_size_are_taken_where_images_vary(bundle: Bundle) -> None:
    requests = reader(bundle, FREE, None, None)
    assert read(requests, {"pixel_values": np.zeros((1, 3, 5, 7), np.float32)}).tasks == [BASE]


@pytest.mark.parametrize(
    ("arrays", "found"),
    [
        ({}, r"the arrays are named \[\]; expected pixel_values float32 \[batch, 3, 16, 24\]"),
        ({"images": IMAGES}, r"the arrays are named \['images'\]"),
        ({"pixel_values": IMAGES, "pixel_prompt": IMAGES}, r"the arrays are named \['pixel_prompt', 'pixel_values'\]"),
        ({"pixel_values": IMAGES[0]}, r"shape \[3, 16, 24\]"),
        ({"pixel_values": IMAGES[:0]}, r"shape \[0, 3, 16, 24\]"),
        ({"pixel_values": IMAGES[:, :2]}, r"shape \[2, 2, 16, 24\]"),
        ({"pixel_values": IMAGES.swapaxes(2, 3)}, r"shape \[2, 3, 24, 16\]"),
        ({"pixel_values": IMAGES.astype(np.uint8)}, "dtype uint8"),
        ({"pixel_values": IMAGES.astype(complex)}, "dtype complex128"),
        ({"pixel_values": IMAGES * np.float32(np.nan)}, "NaN or infinity"),
        ({"pixel_values": IMAGES.astype(np.float64) * 1e300}, "NaN or infinity"),
    ],
)
def test_other_arrays_are_refused(requests: Requests, arrays: dict[str, Any], found: str) -> None:
    with pytest.raises(InputError, match=found):
        read(requests, arrays)
