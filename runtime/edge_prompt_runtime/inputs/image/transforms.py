"""From pixels to what the network takes, as transformers' image processors have it to the last bit.

Cost: decoding and resizing take nearly all of the time. What comes after them is one look into a table of 256 entries
a channel, which holds rescaling and normalisation in one: 0.1 ms for 224 x 224 on one core, as much as a
multiply-add, and unlike it equal to transformers' arithmetic in every bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_prompt.base.errors import InputError
from edge_prompt.formats.image_settings import ImageSettings, Size, padded_size, require_pixels, resized_size
from edge_prompt_runtime.inputs.image.files import read_image

if TYPE_CHECKING:
    from PIL import Image

    from edge_prompt_runtime.inputs.image.files import ImageInput


class ImageSizes(NamedTuple):
    """The sizes that an image had on its way, each a height and a width.

    Attributes:
        original: As it came, turned as it is looked at.
        content: What it takes of the pixel values, without padding.
        origin: Where its upper left corner is in the pixel values; 0, 0 but where padding is put on all sides.
    """

    original: Size
    content: Size
    origin: Size


class PreparedImage(NamedTuple):
    """One image, ready for the network.

    Attributes:
        pixel_values: `[3, height, width]` float32.
        sizes: What a box or a mask is brought back to the image with.
    """

    pixel_values: NDArray[np.float32]
    sizes: ImageSizes


class ImageBatch(NamedTuple):
    """Images, ready for the network.

    Attributes:
        pixel_values: `[batch, 3, height, width]` float32.
        sizes: For each image, what a box or a mask is brought back to it with.
    """

    pixel_values: NDArray[np.float32]
    sizes: tuple[ImageSizes, ...]


def preprocess(image: ImageInput, settings: ImageSettings) -> NDArray[np.float32]:
    """The pixel values of one image, `[3, height, width]` float32.

    Raises:
        EdgePromptError: As `prepare_image`.
    """
    return prepare_image(image, settings).pixel_values


def prepare_image(image: ImageInput, settings: ImageSettings) -> PreparedImage:
    """One image, ready for the network.

    Raises:
        MissingFileError: There is no such file.
        ReadError: The file cannot be read.
        InputError: It is no image that can be read, or cannot be brought to the size.
    """
    batch = _filled([_cut(image, settings, "the image")], settings)
    return PreparedImage(batch.pixel_values[0], batch.sizes[0])


def prepare_images(images: Sequence[ImageInput] | NDArray[Any], settings: ImageSettings) -> ImageBatch:
    """Images of one batch, ready for the network; an array of them has 4 axes.

    Where the settings pad to the batch, zeros after normalisation fill an image up to the right and below; a row's
    `sizes.content` says what transformers' `pixel_mask` does: 1 inside of it, 0 outside.

    Raises:
        MissingFileError: There is no such file.
        ReadError: A file cannot be read.
        InputError: There is no image, one cannot be read, or they come in different sizes and are not padded.
    """
    several = images.ndim == 4 if isinstance(images, np.ndarray) else isinstance(images, Sequence)
    if isinstance(images, (str, bytes)) or not several or not len(images):
        raise InputError(
            found="an empty list of images" if several and not len(images) else f"one {type(images).__name__}",
            wanted="a list of images",
            remedy="pass a list with an image in it",
        )
    return _filled([_cut(image, settings, f"image {row}") for row, image in enumerate(images)], settings)


class _Cut(NamedTuple):
    """An image that was resized and cropped."""

    original: Size
    pixels: NDArray[np.uint8]


def _cut(image: ImageInput, settings: ImageSettings, name: str) -> _Cut:
    read = read_image(image, name)
    height, width = resized_size(settings, read.height, read.width)
    resized = read if settings.resize == "none" else read.resize((width, height), _filter(settings))
    if settings.crop_size:
        crop_height, crop_width = settings.crop_size
        left, top = (width - crop_width) // 2, (height - crop_height) // 2
        # outside of an image, Pillow crops black
        resized = resized.crop((left, top, left + crop_width, top + crop_height))
    return _Cut((read.height, read.width), np.asarray(resized))


def _filter(settings: ImageSettings) -> Image.Resampling:
    from PIL import Image  # noqa: PLC0415 - only requests with images need it

    return Image.Resampling(settings.resample)


def _filled(cuts: Sequence[_Cut], settings: ImageSettings) -> ImageBatch:
    contents = [(cut.pixels.shape[0], cut.pixels.shape[1]) for cut in cuts]
    padded = [padded_size(settings, *content) for content in contents]
    height, width = max(size[0] for size in padded), max(size[1] for size in padded)
    other = next((row for row, size in enumerate(padded) if size != padded[0]), None)
    if other is not None and settings.pad != "batch":
        raise InputError(
            found=f"image 0 becomes {padded[0][0]} x {padded[0][1]} and image {other} {padded[other][0]} x "
            f"{padded[other][1]}",
            wanted="images that come in one size, since this network does not pad",
            remedy="pass images of one size, or one at a time",
        )
    require_pixels(height, width, f"a batch, padded to height {height} and width {width}")
    whole = all(content == (height, width) for content in contents)
    pixel_values = (np.empty if whole else np.zeros)((len(cuts), 3, height, width), np.float32)
    sizes = []
    for row, (cut, content) in enumerate(zip(cuts, contents, strict=True)):
        origin = ((height - content[0]) // 2, (width - content[1]) // 2) if settings.pad == "divisor" else (0, 0)
        top, left = origin
        _normalise(cut.pixels, settings, pixel_values[row, :, top : top + content[0], left : left + content[1]])
        sizes.append(ImageSizes(cut.original, content, origin))
    return ImageBatch(pixel_values, tuple(sizes))


def _normalise(pixels: NDArray[np.uint8], settings: ImageSettings, out: NDArray[np.float32]) -> None:
    """Write `pixels` `[height, width, 3]`, rescaled and normalised, into `out` `[3, height, width]`."""
    for channel, levels in enumerate(_levels(settings)):
        # no index is out of range; "clip" spares the check, and the copy of the output that it would need
        np.take(levels, pixels[:, :, channel], out=out[channel], mode="clip")


@lru_cache(maxsize=16)
def _levels(settings: ImageSettings) -> NDArray[np.float32]:
    """What each of 256 values becomes, `[3, 256]`: in transformers' order of steps and roundings."""
    rescaled = (np.arange(256, dtype=np.float64) * settings.rescale_factor).astype(np.float32)
    mean, std = np.array(settings.image_mean, np.float32), np.array(settings.image_std, np.float32)
    levels: NDArray[np.float32] = (rescaled - mean[:, None]) / std[:, None]
    levels.flags.writeable = False
    return levels
