from __future__ import annotations

import contextlib
import gc
import os
import struct
import warnings
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from edge_prompt.base.errors import EdgePromptError, InputError, MissingFileError, ReadError
from edge_prompt_runtime.inputs.image import read_image

Picture = Callable[[int, int], Image.Image]


def file_of(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png_header(width: int, height: int, pixels: bytes = b"") -> bytes:
    """A PNG whose header claims this size, with hardly any pixel data."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def pixels_of(image: Any) -> NDArray[np.uint8]:
    found = read_image(image)
    assert found.mode == "RGB"
    return np.asarray(found)


def test_every_kind_of_image_gives_the_same_pixels(picture: Picture, tmp_path: Path) -> None:
    image = picture(5, 9)
    expected = np.asarray(image)
    path = tmp_path / "picture.png"
    image.save(path)
    floats = expected / 255
    alpha = np.concatenate([expected, np.full((5, 9, 1), 9, np.uint8)], axis=-1)
    arrays = [expected, expected.transpose(2, 0, 1), floats, floats.astype(np.float32), alpha, expected[::1, :, :]]
    for given_image in [path, str(path), path.read_bytes(), image, *arrays]:
        np.testing.assert_array_equal(pixels_of(given_image), expected)
    np.testing.assert_allclose(pixels_of(floats.astype(np.float16)), expected, atol=1)


def test_floats_are_rounded_to_the_nearest_of_256_values() -> None:
    np.testing.assert_array_equal(pixels_of(np.array([[0, 0.5, 0.999, 1]]))[0, :, 0], [0, 128, 255, 255])


def test_a_grey_array_is_grey_in_each_channel() -> None:
    grey = np.arange(20, dtype=np.uint8).reshape(4, 5) * 13
    expected = np.repeat(grey[:, :, None], 3, axis=-1)
    np.testing.assert_array_equal(pixels_of(grey), expected)
    np.testing.assert_array_equal(pixels_of(grey[:, :, None]), expected)


def test_a_part_of_an_array_is_read_right(picture: Picture) -> None:
    pixels = np.asarray(picture(20, 30))
    np.testing.assert_array_equal(pixels_of(pixels[::2, ::-1]), pixels[::2, ::-1])


def test_the_callers_image_stays_as_it_is(picture: Picture) -> None:
    image = picture(4, 5).convert("P")
    before = image.tobytes()
    read_image(image).paste((1, 2, 3), (0, 0, 5, 4))
    assert image.mode == "P"
    assert image.tobytes() == before


@pytest.mark.parametrize(
    ("array", "found"),
    [
        (np.zeros((2, 3, 4, 3), np.uint8), r"an array of shape \[2, 3, 4, 3\]; expected \[height, width, 3\]"),
        (np.zeros(3, np.uint8), r"an array of shape \[3\]"),
        (np.zeros((), np.uint8), r"an array of shape \[\]"),
        (np.zeros((4, 5, 2), np.uint8), r"an array of shape \[4, 5, 2\]"),
        (np.zeros((1, 4, 5), np.uint8), r"an array of shape \[1, 4, 5\]"),
        (np.zeros((3, 4, 3), np.uint8), r"an array of shape \[3, 4, 3\], in which the channels could be first or last"),
        (np.zeros((3, 4, 1), np.uint8), r"an array of shape \[3, 4, 1\], in which the channels could be first or last"),
        (np.zeros((0, 4, 3), np.uint8), r"an array of shape \[0, 4, 3\]; expected 1 to \d+ pixels"),
        (np.zeros((3, 4, 0), np.uint8), r"an array of shape \[3, 4, 0\]; expected 1 to \d+ pixels"),
        (np.zeros((0, 4), np.float32), r"an array of shape \[0, 4\]; expected 1 to \d+ pixels"),
        (np.broadcast_to(np.uint8(0), (10_000, 10_000)), r"an array of shape \[10000, 10000\]; expected 1 to"),
        (np.zeros((4, 5), np.int64), "an array of int64; expected uint8 from 0 to 255, or floats from 0 to 1"),
        (np.zeros((4, 5), bool), "an array of bool"),
        (np.zeros((4, 5), np.uint16), "an array of uint16"),
        (np.zeros((4, 5), complex), "an array of complex128"),
        (np.zeros((4, 5), object), "an array of object"),
        (np.zeros((4, 5), "U1"), "an array of <U1"),
        (np.full((4, 5), 1.01, np.float32), r"an array of float32 with values from 1\.\d+ to 1\.\d+; expected"),
        (np.full((4, 5), 200.0), "an array of float64 with values from 200.0 to 200.0"),
        (np.array([[-0.1, 1]]), r"an array of float64 with values from -0\.1 to 1\.0"),
        (np.array([[0, np.nan]]), "an array of float64 with values from nan to nan"),
        (np.array([[0, np.inf]]), r"an array of float64 with values from 0\.0 to inf"),
    ],
)
def test_an_array_that_is_no_image_is_refused(array: NDArray[Any], found: str) -> None:
    with pytest.raises(InputError, match=f"^the image is {found}"):
        read_image(array)


@pytest.mark.parametrize("image", [None, 3, ["cat.png"], {"image": 3}, bytearray(b"\xff"), object()])
def test_what_is_no_image_at_all_is_refused(image: Any) -> None:
    with pytest.raises(InputError, match=f"the image is of type {type(image).__name__}; expected a path"):
        read_image(image)


@pytest.mark.parametrize("name", ["none.png", "", "a\0b", "x" * 300, "\udcff", "https://example.org/cat.png"])
def test_a_missing_file_is_reported(tmp_path: Path, name: str) -> None:
    with pytest.raises(MissingFileError):
        read_image(str(tmp_path / name))


def test_an_unreadable_file_is_reported(picture: Picture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "picture.png"
    picture(4, 4).save(path)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ReadError, match="Permission denied"):
        read_image(path)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"


@pytest.mark.parametrize("content", [b"", b"\n", b"a text, no image\n" * 99, EPS, b"%PDF-1.7\n", b"\x00" * 999])
def test_bytes_that_are_no_image_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "picture.jpg"
    path.write_bytes(content)
    with pytest.raises(InputError, match="the image is not an image of a supported format; expected one of JPEG, PNG"):
        read_image(content)
    with pytest.raises(InputError, match=r"the image, .*picture\.jpg, is not an image"):
        read_image(path)


@pytest.mark.parametrize("kind", ["eps", "ico", "tga", "pcx", "pdf", "jpeg2000"])
def test_exotic_formats_are_refused(picture: Picture, kind: str) -> None:
    with pytest.raises(InputError):
        read_image(file_of(picture(40, 60), kind))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM"])
@pytest.mark.parametrize("quarter", range(4))
def test_a_truncated_file_is_refused(picture: Picture, kind: str, quarter: int) -> None:
    content = file_of(picture(64, 64), kind)
    with pytest.raises(InputError, match=r"the image is (broken|not an image)"):
        read_image(content[: len(content) * quarter // 4])


def test_a_file_that_was_altered_is_refused(picture: Picture) -> None:
    content = bytearray(file_of(picture(64, 64), "PNG"))
    content[len(content) // 2] ^= 255
    with pytest.raises(InputError, match="the image is broken"):
        read_image(bytes(content))


def test_an_image_of_pillow_whose_file_is_broken_is_refused(picture: Picture) -> None:
    content = file_of(picture(64, 64), "JPEG")
    with Image.open(BytesIO(content[: len(content) // 2])) as image, pytest.raises(InputError, match="image is broken"):
        read_image(image)


@pytest.mark.parametrize("size", [(50_000, 50_000), (10_000, 9_000), (89_478_486, 1), (1, 2**31 - 1)])
@pytest.mark.parametrize("filtered", ["error", "ignore"])
@pytest.mark.parametrize("own_limit", [None, 10**12, 89_478_485, 100])
def test_a_decompression_bomb_is_refused_by_its_header(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], filtered: Any, own_limit: int | None
) -> None:
    def fail(*_: object) -> None:
        pytest.fail("decoded")

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", fail)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", own_limit)
    with warnings.catch_warnings():
        warnings.simplefilter(filtered)
        with pytest.raises(InputError, match=r"too large|expected 1 to 89478485 pixels"):
            read_image(png_header(*size))


def test_pillows_own_settings_are_left_alone(picture: Picture) -> None:
    before = Image.MAX_IMAGE_PIXELS
    read_image(file_of(picture(4, 4), "PNG"))
    assert before == Image.MAX_IMAGE_PIXELS == 89_478_485


def test_the_largest_image_passes_the_check_of_its_size() -> None:
    with pytest.raises(InputError, match="the image is broken"):  # because it has no pixel data
        read_image(png_header(89_478_485, 1))


def test_an_image_of_pillow_may_not_be_larger_either() -> None:
    with pytest.raises(InputError, match="the image of height 9000 and width 10000; expected 1 to"):
        read_image(Image.new("1", (10_000, 9_000)))
    with pytest.raises(InputError, match="the image of height 0 and width 4"):
        read_image(Image.new("RGB", (4, 0)))


SIXTEEN = np.array([[0, 255, 256, 4096], [32767, 32768, 65279, 65535]], np.uint16)


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(file_of(Image.fromarray(SIXTEEN), "PNG"), id="png"),
        pytest.param(file_of(Image.fromarray(SIXTEEN), "TIFF"), id="tiff"),
        pytest.param(b"P5 4 2 65535\n" + SIXTEEN.astype(">u2").tobytes(), id="pgm"),
        pytest.param(Image.fromarray(SIXTEEN), id="pillow"),
        pytest.param(Image.frombytes("I;16B", (4, 2), SIXTEEN.astype(">u2").tobytes()), id="big-endian"),
    ],
)
def test_the_upper_8_of_16_bits_are_used(image: Any) -> None:
    np.testing.assert_array_equal(pixels_of(image)[:, :, 0], SIXTEEN >> 8)


def test_grey_of_16_bits_is_as_pillow_has_colour_of_16_bits() -> None:
    colour = np.repeat(SIXTEEN.astype(">u2")[:, :, None], 3, axis=-1)
    pixels = pixels_of(b"P6 4 2 65535\n" + colour.tobytes())
    assert np.abs(pixels.astype(int) - (SIXTEEN >> 8)[:, :, None]).max() <= 1


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_without_a_known_white_are_refused(mode: str) -> None:
    with pytest.raises(InputError, match=f"has 32 bits per pixel, mode {mode}"):
        read_image(Image.new(mode, (4, 4)))
    with pytest.raises(InputError, match=f"has 32 bits per pixel, mode {mode}"):
        read_image(file_of(Image.new(mode, (4, 4)), "TIFF"))


def test_a_mode_that_pillow_cannot_convert_is_refused() -> None:
    with pytest.raises(InputError, match=r"the image is broken .*not supported"):
        read_image(Image.new("La", (4, 4)))


def test_what_is_transparent_shows_the_colour_behind_it() -> None:
    image = Image.new("RGBA", (4, 4), (200, 100, 50, 0))
    for given_image in (image, file_of(image, "PNG"), np.asarray(image)):
        np.testing.assert_array_equal(pixels_of(given_image)[0, 0], [200, 100, 50])


def test_an_image_of_pillow_is_taken_as_it_lies(picture: Picture) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = file_of(picture(4, 6), "JPEG", exif=exif)
    assert read_image(content).size == (4, 6)
    with Image.open(BytesIO(content)) as image:
        assert read_image(image).size == (6, 4)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs a system that lists open files")
def test_no_file_is_left_open(picture: Picture, tmp_path: Path) -> None:
    paths: list[Path] = []
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF"):
        content = file_of(picture(32, 32), kind)
        for part in (content, content[: len(content) // 2], content[:9]):
            paths.append(tmp_path / f"{len(paths)}")
            paths[-1].write_bytes(part)
    gc.disable()  # so that only the code under test closes them
    try:
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - links that may be gone by now
        for path in paths:
            with contextlib.suppress(InputError):
                read_image(path)
        assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    finally:
        gc.enable()


SEEDS = [
    file_of(Image.effect_noise((9, 7), 80).convert(mode), kind)
    for kind, mode in [
        ("PNG", "RGB"), ("PNG", "P"), ("JPEG", "L"), ("GIF", "P"), ("BMP", "RGB"), ("TIFF", "CMYK"), ("PPM", "L"),
        ("WEBP", "RGB"),
    ]
]  # fmt: skip


def read_or_refuse(content: bytes) -> None:
    try:
        found = read_image(content)
    except EdgePromptError as error:
        assert isinstance(error, InputError)  # noqa: PT017
    else:
        assert found.mode == "RGB"


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    read_or_refuse(content)  # raises nothing


@settings(max_examples=600, deadline=None)
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=4)), min_size=1, max_size=4),
    st.integers(0, 3),
)
def test_any_damage_to_a_file_is_read_or_refused(seed: bytes, damage: list[tuple[int, bytes]], cut: int) -> None:
    content = bytearray(seed)
    for position, replacement in damage:
        start = position % len(content)
        content[start : start + len(replacement) + (cut == 1)] = replacement
    read_or_refuse(bytes(content[: len(content) // cut] if cut > 1 else content))  # raises nothing


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(0, 5), max_size=4),
    st.sampled_from(["u1", "i1", "u2", "i8", "f2", "f4", "f8", "b1", "c8", "O", "S2", "M8[s]"]),
    st.sampled_from([0, 1]),
)
def test_any_array_is_read_or_refused(shape: list[int], dtype: str, value: int) -> None:
    array = np.full(shape, value).astype(dtype)
    try:
        found = read_image(array)
    except InputError:
        return
    assert dtype in {"u1", "f2", "f4", "f8"}
    assert np.asarray(found).max() == (value if dtype == "u1" else value * 255)
