"""Converts pixels to the network's input, bit-identical to transformers' image processors.

Written here because transformers' processors need torch or torchvision; decoding and resizing are Pillow's.

Decoding and resizing take nearly all of the time. Rescaling and normalisation are a single lookup in a table of 256
entries per channel: 0.1 ms for 224 x 224 pixels on one core. A multiply-add would take as long, but would not be
bit-identical to transformers.
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
    """The sizes of an image before and after preprocessing, each a height and a width.

    Attributes:
        original: Original size, after rotation by the EXIF orientation.
        content: Size of the image in the pixel values, without padding.
        origin: Position of its upper left corner in the pixel values; (0, 0) unless padding is on all sides.
    """

    original: Size
    content: Size
    origin: Size


class PreparedImage(NamedTuple):
    """One image, ready for the network.

    Attributes:
        pixel_values: `[3, height, width]` float32.
        sizes: The sizes that map boxes and masks back to the original image.
    """

    pixel_values: NDArray[np.float32]
    sizes: ImageSizes


class ImageBatch(NamedTuple):
    """Images, ready for the network.

    Attributes:
        pixel_values: `[batch, 3, height, width]` float32.
        sizes: For each image, the sizes that map boxes and masks back to the original.
    """

    pixel_values: NDArray[np.float32]
    sizes: tuple[ImageSizes, ...]


def preprocess(image: ImageInput, settings: ImageSettings) -> NDArray[np.float32]:
    """Return the pixel values of one image, `[3, height, width]` float32.

    Raises:
        EdgePromptError: See `prepare_image`.
    """
    return prepare_image(image, settings).pixel_values


def prepare_image(image: ImageInput, settings: ImageSettings) -> PreparedImage:
    """Prepare one image for the network.

    Raises:
        MissingFileError: The file does not exist.
        ReadError: The file cannot be read.
        InputError: The image cannot be decoded or resized.
    """
    batch = _filled([_cut(image, settings, "the image")], settings)
    return PreparedImage(batch.pixel_values[0], batch.sizes[0])


def prepare_images(images: Sequence[ImageInput] | NDArray[Any], settings: ImageSettings) -> ImageBatch:
    """Prepare the images of one batch for the network; an array of images has 4 axes.

    If the settings pad to the batch, images are padded on the right and at the bottom with zeros after normalisation.
    A row's `sizes.content` corresponds to transformers' `pixel_mask`, which is 1 inside it and 0 outside.

    Raises:
        MissingFileError: A file does not exist.
        ReadError: A file cannot be read.
        InputError: There are no images, one cannot be decoded, or their sizes differ and the network does not pad.
    """
    several = images.ndim == 4 if isinstance(images, np.ndarray) else isinstance(images, Sequence)
    if isinstance(images, (str, bytes)) or not several or not len(images):
        raise InputError(
            found="the list of images is empty" if several and not len(images) else f"got one {type(images).__name__}",
            wanted="a list of images",
            remedy="pass a list with at least one image",
        )
    return _filled([_cut(image, settings, f"image {row}") for row, image in enumerate(images)], settings)


class _Cut(NamedTuple):
    """A resized and cropped image."""

    original: Size
    pixels: NDArray[np.uint8]


def _cut(image: ImageInput, settings: ImageSettings, name: str) -> _Cut:
    read = read_image(image, name)
    height, width = resized_size(settings, read.height, read.width)
    resized = read if settings.resize == "none" else read.resize((width, height), _filter(settings))
    if settings.crop_size:
        crop_height, crop_width = settings.crop_size
        left, top = (width - crop_width) // 2, (height - crop_height) // 2
        # Pillow fills the area outside an image with black
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
            found=f"image 0 is resized to {padded[0][0]} x {padded[0][1]} and image {other} to {padded[other][0]} x "
            f"{padded[other][1]}",
            wanted="images of one size, because this network does not pad",
            remedy="pass images of one size, or one image at a time",
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
        # all indices are in range; "clip" skips the check and a copy of the output
        np.take(levels, pixels[:, :, channel], out=out[channel], mode="clip")


@lru_cache(maxsize=16)
def _levels(settings: ImageSettings) -> NDArray[np.float32]:
    """The normalised value of each of 256 levels, `[3, 256]`, with the steps and roundings of transformers."""
    rescaled = (np.arange(256, dtype=np.float64) * settings.rescale_factor).astype(np.float32)
    mean, std = np.array(settings.image_mean, np.float32), np.array(settings.image_std, np.float32)
    levels: NDArray[np.float32] = (rescaled - mean[:, None]) / std[:, None]
    levels.flags.writeable = False
    return levels
