"""The image preprocessing settings in a bundle's manifest, and the sizes that result from them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from edge_prompt.base.errors import InputError
from edge_prompt.untrusted.json_fields import NEWER, Fields
from edge_prompt.untrusted.records import number, one_of, require_consistent

Size = tuple[int, int]
"""A height and a width in pixels."""

MAX_PIXELS = 89_478_485
"""The most pixels of an image before and after resizing: 0.25 GB at 3 bytes per pixel, which is Pillow's own limit."""

MAX_EDGE = 8192
"""The longest edge that settings may request; its square is below `MAX_PIXELS`."""

MAX_NUMBER = 1e6
"""The limit of means, standard deviations and scales and of their inverses, which keeps float32 from overflowing."""

ChannelNumber = Annotated[float, number(-MAX_NUMBER, MAX_NUMBER)]

RESAMPLES = range(6)
"""Pillow's filters by number: nearest, Lanczos, bilinear, bicubic, box, Hamming."""


@dataclass(frozen=True)
class ImageSettings:
    """How an image becomes pixel values. The steps are applied in the order of the fields.

    Attributes:
        resize: The rule for the size after resizing; see `RESIZE_LAWS`.
        size: The parameters of that rule: height and width, or edges.
        multiple: The number of which height and width are multiples after `multiples` and `multiples_keeping_aspect`;
            otherwise 1.
        resample: Pillow's number of the filter.
        crop_size: The height and width of the centre crop, padded with black if the image is smaller; empty for none.
        rescale_factor: The factor for values from 0 to 255.
        image_mean: The mean to subtract from each channel: red, green, blue.
        image_std: The standard deviation to divide each channel by.
        pad: The rule for padding with zeros; see `PAD_LAWS`.
        pad_size: The parameters of that rule: height and width, or the divisor.
    """

    resize: Annotated[str, one_of(RESIZE_LAWS, NEWER)]
    size: tuple[int, ...]
    multiple: int
    resample: int
    crop_size: tuple[int, ...]
    rescale_factor: float
    image_mean: tuple[ChannelNumber, ChannelNumber, ChannelNumber]
    image_std: tuple[ChannelNumber, ChannelNumber, ChannelNumber]
    pad: Annotated[str, one_of(PAD_LAWS, NEWER)]
    pad_size: tuple[int, ...]

    @property
    def fixed_size(self) -> Size | None:
        """The height and width of the pixel values if they are the same for every image; otherwise None."""
        content = _pair(self.crop_size) if self.crop_size else _fixed_resize(self)
        if self.pad == "exact":
            return _pair(self.pad_size)
        return None if content is None else PAD_LAWS[self.pad][1](self, *content)


@require_consistent.register
def _require_counts_and_ranges(settings: ImageSettings, fields: Fields) -> None:
    counts = {
        "size": (settings.size, (RESIZE_LAWS[settings.resize][0],)),
        "crop_size": (settings.crop_size, (0, 2)),
        "pad_size": (settings.pad_size, (PAD_LAWS[settings.pad][0],)),
    }
    for name, (lengths, accepted) in counts.items():
        if len(lengths) not in accepted:
            fields.refuse(
                f"{name!r} is {str(list(lengths))[:80]}", f"a list of {' or '.join(map(str, accepted))} integers"
            )
    all_lengths = (*settings.size, *settings.crop_size, *settings.pad_size, settings.multiple)
    if not all(1 <= length <= MAX_EDGE for length in all_lengths):
        fields.refuse(f"a size among {str(all_lengths)[:80]}", f"sizes from 1 to {MAX_EDGE}")
    if settings.resample not in RESAMPLES:
        fields.refuse(f"the filter {str(settings.resample)[:20]}", "Pillow's number of a filter, 0 to 5")
    # NaN fails this comparison
    if not all(1 / MAX_NUMBER <= factor <= MAX_NUMBER for factor in (settings.rescale_factor, *settings.image_std)):
        fields.refuse(
            f"'rescale_factor' {settings.rescale_factor} and 'image_std' {str(settings.image_std)[:80]}",
            f"numbers from {1 / MAX_NUMBER} to {MAX_NUMBER}",
        )


def output_size(settings: ImageSettings, height: int, width: int) -> Size:
    """Return the height and width of the pixel values of an image; for the padding rule `batch`, of a single image.

    Raises:
        InputError: The size would be empty, larger than `MAX_PIXELS`, or larger than the padded size.
    """
    return padded_size(settings, *content_size(settings, height, width))


def resized_size(settings: ImageSettings, height: int, width: int) -> Size:
    """Return the height and width of an image after resizing.

    Raises:
        InputError: The image is empty or larger than `MAX_PIXELS` before or after resizing.
    """
    require_pixels(height, width, f"an image of height {height} and width {width}")
    resized = RESIZE_LAWS[settings.resize][1](settings, height, width)
    require_pixels(*resized, f"an image of height {height} and width {width}, resized to {resized[0]} and {resized[1]}")
    return resized


def content_size(settings: ImageSettings, height: int, width: int) -> Size:
    """Return the height and width of an image after resizing and cropping, before padding.

    Raises:
        InputError: See `resized_size`.
    """
    resized = resized_size(settings, height, width)
    return _pair(settings.crop_size) if settings.crop_size else resized


def padded_size(settings: ImageSettings, height: int, width: int) -> Size:
    """Return the height and width of an image of `height` and `width` after padding.

    Raises:
        InputError: The image is larger than the padded size, or becomes larger than `MAX_PIXELS`.
    """
    padded = PAD_LAWS[settings.pad][1](settings, height, width)
    if padded[0] < height or padded[1] < width:
        raise InputError(
            found=f"an image of height {height} and width {width} after resizing",
            wanted=f"at most {padded[0]} and {padded[1]}, the size that images are padded to",
            remedy="use a smaller image",
        )
    require_pixels(*padded, f"an image of height {height} and width {width}, padded to {padded[0]} and {padded[1]}")
    return padded


def require_pixels(height: int, width: int, found: str) -> None:
    """Check that a size is neither empty nor larger than `MAX_PIXELS`.

    Raises:
        InputError: The size is out of range.
    """
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise InputError(
            found=found,
            wanted=f"1 to {MAX_PIXELS} pixels",
            remedy="resize or crop the image first",
        )


def _exact(settings: ImageSettings, _height: int, _width: int) -> Size:
    return _pair(settings.size)


def _shortest_edge(settings: ImageSettings, height: int, width: int) -> Size:
    (edge,) = settings.size
    long = int(edge * max(height, width) / min(height, width))
    return (long, edge) if width <= height else (edge, long)


def _two_edges(settings: ImageSettings, height: int, width: int) -> Size:
    edge, limited = _limited_edge(settings, height, width)
    if min(height, width) == edge:
        return height, width
    return _from_short_edge(edge, limited, height, width)


def _two_edges_of_16(settings: ImageSettings, height: int, width: int) -> Size:
    """Compute the size like YOLOS, which checks only landscape images for an edge that already has the right length."""
    edge, limited = _limited_edge(settings, height, width)
    is_right = height <= width and height == edge
    new_height, new_width = (height, width) if is_right else _from_short_edge(edge, limited, height, width)
    return new_height - new_height % 16, new_width - new_width % 16


def _limited_edge(settings: ImageSettings, height: int, width: int) -> tuple[int, float]:
    """Return the shortest edge for which the longest edge stays within its limit, rounded and unrounded."""
    shortest, longest = settings.size
    short, long = float(min(height, width)), float(max(height, width))
    if long / short * shortest <= longest:
        return shortest, shortest
    limited = longest * short / long
    return round(limited), limited


def _from_short_edge(edge: int, limited: float, height: int, width: int) -> Size:
    return (int(limited * height / width), edge) if width < height else (edge, int(limited * width / height))


def _fit_within(settings: ImageSettings, height: int, width: int) -> Size:
    scale = min(settings.size[0] / height, settings.size[1] / width)
    return int(height * scale), int(width * scale)


def _multiples(settings: ImageSettings, height: int, width: int) -> Size:
    return _in_multiples(settings, settings.size[0] / height * height, settings.size[1] / width * width)


def _multiples_keeping_aspect(settings: ImageSettings, height: int, width: int) -> Size:
    scale_height, scale_width = settings.size[0] / height, settings.size[1] / width
    scale = scale_width if abs(1 - scale_width) < abs(1 - scale_height) else scale_height
    return _in_multiples(settings, scale * height, scale * width)


def _in_multiples(settings: ImageSettings, height: float, width: float) -> Size:
    multiple = settings.multiple
    return round(height / multiple) * multiple, round(width / multiple) * multiple


def _unchanged(_settings: ImageSettings, height: int, width: int) -> Size:
    return height, width


def _to_pad_size(settings: ImageSettings, _height: int, _width: int) -> Size:
    return _pair(settings.pad_size)


def _to_divisor(settings: ImageSettings, height: int, width: int) -> Size:
    (divisor,) = settings.pad_size
    return math.ceil(height / divisor) * divisor, math.ceil(width / divisor) * divisor


Law = Callable[[ImageSettings, int, int], Size]

RESIZE_LAWS: dict[str, tuple[int, Law]] = {
    "none": (0, _unchanged),
    "exact": (2, _exact),
    "shortest_edge": (1, _shortest_edge),
    "two_edges": (2, _two_edges),
    "two_edges_of_16": (2, _two_edges_of_16),
    "within": (2, _fit_within),
    "multiples": (2, _multiples),
    "multiples_keeping_aspect": (2, _multiples_keeping_aspect),
}
"""The length of `size` and the function that computes the resized size, by rule. See `docs/reference/formats.md`."""

PAD_LAWS: dict[str, tuple[int, Law]] = {
    "none": (0, _unchanged),
    "batch": (0, _unchanged),
    "exact": (2, _to_pad_size),
    "divisor": (1, _to_divisor),
}
"""The length of `pad_size` and the function that computes the padded size of a single image, by rule."""


def _fixed_resize(settings: ImageSettings) -> Size | None:
    if settings.resize == "exact":
        return _pair(settings.size)
    # a length halfway between two multiples is rounded to either one, depending on the last bit of the scale
    between = any(2 * length % settings.multiple == 0 != length % settings.multiple for length in settings.size)
    if settings.resize == "multiples" and not between:
        return _in_multiples(settings, *settings.size)
    return None


def _pair(numbers: tuple[int, ...]) -> Size:
    height, width = numbers
    return height, width
