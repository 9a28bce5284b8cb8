"""Reads the images of a request. Files are untrusted input."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from edge_prompt.base.errors import EdgePromptError, InputError
from edge_prompt.formats.image_settings import require_pixels
from edge_prompt.storage.files import open_regular_file

if TYPE_CHECKING:
    from PIL import Image

    ImageInput = str | Path | bytes | Image.Image | NDArray[Any]

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
"""Accepted formats. Pillow knows many more, some of which run other programs, such as Ghostscript for EPS."""

_ORIENTATION = 0x0112
"""The EXIF tag for the orientation of the camera."""

_TURNED_BY = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
"""Pillow's transposition that undoes each orientation."""

_SIXTEEN_BITS = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})

_SIXTEEN_BITS_IN_MORE = frozenset({("PNG", "I"), ("PPM", "I")})
"""Formats of at most 16 bits per channel that Pillow decodes to 32 bits."""

_CHANNELS = (1, 3, 4)

_RUN_LENGTHS, _MOST_OF_RUN_LENGTHS = "bmp_rle", 1 << 22
"""A codec that Pillow implements in pure Python, and the most pixels that it may decode: a file of a few bytes may
otherwise take half a minute."""


def read_image(image: ImageInput, name: str = "the image") -> Image.Image:
    """Read an image as 8-bit RGB in its original size.

    Transparent pixels get their stored colour, as in Pillow's `convert("RGB")`. 16-bit images keep the upper 8 bits;
    for grey images Pillow itself would clip. A file with several images gives the first. Images in files are rotated
    by their EXIF orientation; a Pillow image that the caller opened is used as it is, as in transformers.

    Args:
        image: A path, the bytes of a file, a Pillow image, or an array: uint8, or floats from 0 to 1, of shape
            `[height, width]`, `[height, width, channels]` with 1, 3 or 4 channels, or `[3, height, width]` if that is
            unambiguous.
        name: How messages refer to the image.

    Raises:
        MissingFileError: The file does not exist.
        ReadError: The file cannot be read.
        InputError: The image is of an unknown format, broken, empty or too large, or the array has the wrong shape or
            values.
    """
    from PIL import Image  # noqa: PLC0415 - only requests with images need it

    readers: tuple[tuple[type, Callable[[Any, str], Image.Image]], ...] = (
        (str, _of_path),
        (Path, _of_path),
        (bytes, _of_bytes),
        (Image.Image, _of_pillow),
        (np.ndarray, _of_array),
    )
    for kind, read in readers:
        if isinstance(image, kind):
            return read(image, name)
    raise InputError(
        found=f"{name} is of type {type(image).__name__}",
        wanted="a path, bytes, a Pillow image or an array",
        remedy="pass one of these",
    )


def _of_path(path: str | Path, name: str) -> Image.Image:
    with open_regular_file(Path(path)) as stream:
        return _decoded(stream, f"{name}, {path},")


def _of_bytes(content: bytes, name: str) -> Image.Image:
    return _decoded(BytesIO(content), name)


def _decoded(stream: BinaryIO, name: str) -> Image.Image:
    # imported explicitly, so that Pillow does not import all of its decoders to find these two
    from PIL import Image, TiffImagePlugin, WebPImagePlugin  # noqa: F401, PLC0415

    with _explained(name), Image.open(stream, formats=FORMATS) as image:
        require_pixels(image.height, image.width, f"{name} of height {image.height} and width {image.width}")
        _require_quick(image, name)
        image.load()
        turned = _TURNED_BY.get(image.getexif().get(_ORIENTATION, 1))
        pixels = _rgb(image, name, sixteen_bits=(image.format, image.mode) in _SIXTEEN_BITS_IN_MORE)
        return pixels if turned is None else pixels.transpose(Image.Transpose(turned))


def _require_quick(image: Any, name: str) -> None:
    slow = any(tile[0] == _RUN_LENGTHS for tile in image.tile)
    if slow and image.height * image.width > _MOST_OF_RUN_LENGTHS:
        raise InputError(
            found=f"{name} of height {image.height} and width {image.width} is a run-length encoded BMP",
            wanted=f"at most {_MOST_OF_RUN_LENGTHS} pixels in this format",
            remedy="convert it to PNG first",
        )


def _of_pillow(image: Image.Image, name: str) -> Image.Image:
    require_pixels(image.height, image.width, f"{name} of height {image.height} and width {image.width}")
    with _explained(name):
        return _rgb(image, name)


def _rgb(image: Image.Image, name: str, *, sixteen_bits: bool = False) -> Image.Image:
    from PIL import Image  # noqa: PLC0415

    if sixteen_bits or image.mode in _SIXTEEN_BITS:
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in {"I", "F"}:
        raise InputError(
            found=f"{name} has 32 bits per pixel, mode {image.mode}",
            wanted="8 or 16 bits, for which the value of white is known",
            remedy="scale it to 0 to 255 and convert it to 8 bits",
        )
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")  # avoids Pillow's warning about converting directly to RGB
    return image.convert("RGB")


@contextmanager
def _explained(name: str) -> Iterator[None]:
    """Convert Pillow's exceptions to `InputError`: for broken files it raises many kinds, including warnings."""
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415

    try:
        yield
    except EdgePromptError:
        raise
    except UnidentifiedImageError as error:
        raise InputError(
            found=f"{name} is not an image of a supported format",
            wanted=f"one of {', '.join(FORMATS)}",
            remedy="convert it first",
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(
            found=f"{name} is too large ({error})",
            wanted="an image that can be decoded",
            remedy="resize it first",
        ) from error
    except Exception as error:
        raise InputError(
            found=f"{name} is broken ({error})",
            wanted="an image that can be decoded",
            remedy="download or copy the file again, or leave it out",
        ) from error


def _of_array(array: NDArray[Any], name: str) -> Image.Image:
    from PIL import Image  # noqa: PLC0415

    shape = list(array.shape)
    first, last = (shape[0], shape[-1]) if array.ndim == 3 else (0, 3)
    channels_first = first == 3
    if array.ndim not in {2, 3} or channels_first is (last in _CHANNELS):
        raise InputError(
            found=f"{name} is an array of shape {shape}"
            + ", in which the channels could be first or last" * channels_first,
            wanted="[height, width, 3]",
            remedy="transpose the array, or pass a Pillow image",
        )
    if channels_first:
        array = array.transpose(1, 2, 0)
    require_pixels(array.shape[0], array.shape[1], f"{name} is an array of shape {shape}")
    array = _eight_bits(array, name)
    if array.ndim == 3:
        array = array[:, :, 0] if array.shape[2] == 1 else array[:, :, :3]
    return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")


def _eight_bits(array: NDArray[Any], name: str) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    wanted = "uint8 from 0 to 255, or floats from 0 to 1"
    if array.dtype.kind != "f":
        raise InputError(
            found=f"{name} is an array of {array.dtype}", wanted=wanted, remedy="convert the array to one of these"
        )
    least, most = array.min(), array.max()
    if not (least >= 0 and most <= 1):  # written so that NaN is refused too
        raise InputError(
            found=f"{name} is an array of {array.dtype} with values from {least} to {most}",
            wanted=wanted,
            remedy="scale the array, and pass the image before normalisation",
        )
    return np.rint(array * np.float32(255)).astype(np.uint8)
