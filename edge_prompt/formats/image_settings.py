"""What is done to an image before the network sees it, as a bundle's manifest holds it, and the size that comes out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edge_prompt.base.errors import InputError
from edge_prompt.untrusted.json_fields import Fields

Size = tuple[int, int]
"""A height and a width in pixels, in this order."""

MAX_PIXELS = 89_478_485
"""Of one image, as it came and as it is resized: a quarter of a gigabyte in 3 bytes a pixel, Pillow's own limit."""

MAX_EDGE = 8192
"""Of a size that settings may ask for; its square stays below `MAX_PIXELS`."""

MAX_NUMBER = 1e6
"""Of a mean, a standard deviation and a scale: beyond, or beyond the inverse, float32 would run out of room."""

RESAMPLES = range(6)
"""Pillow's filters by number: nearest, Lanczos, bilinear, bicubic, box, Hamming."""


@dataclass(frozen=True)
class ImageSettings:
    """How an image becomes pixel values. The steps are done in the order of the fields.

    Attributes:
        resize: The law of the size that the image is resized to; see `RESIZE_LAWS`.
        size: The numbers of that law: height and width, or edges.
        multiple: What height and width are multiples of after `multiples` and `multiples_keeping_aspect`; else 1.
        resample: Pillow's number of the filter.
        crop_size: Height and width that are cut from the middle, black where the image is smaller; empty for none.
        rescale_factor: What a value of 0 to 255 is multiplied by.
        image_mean: What is subtracted then, by channel: red, green, blue.
        image_std: What is divided by then, by channel.
        pad: How zeros are put around the image; see `PAD_LAWS`.
        pad_size: The numbers of that law: height and width, or the divisor.
    """

    resize: str
    size: tuple[int, ...]
    multiple: int
    resample: int
    crop_size: tuple[int, ...]
    rescale_factor: float
    image_mean: tuple[float, float, float]
    image_std: tuple[float, float, float]
    pad: str
    pad_size: tuple[int, ...]

    @property
    def fixed_size(self) -> Size | None:
        """The height and width of the pixel values, if they are the same for every image; else None."""
        content = _pair(self.crop_size) if self.crop_size else _fixed_resize(self)
        if self.pad == "exact":
            return _pair(self.pad_size)
        return None if content is None else PAD_LAWS[self.pad][1](self, *content)

    @classmethod
    def from_fields(cls, fields: Fields) -> ImageSettings:
        """Read settings as `dataclasses.asdict` gives them, from an untrusted file; every field must be there.

        Raises:
            ManifestError: A field is missing, of another type, or out of range.
        """
        resize, pad = _one_of(fields, "resize", RESIZE_LAWS), _one_of(fields, "pad", PAD_LAWS)
        return checked(
            cls(
                resize=resize,
                size=_integers(fields, "size", RESIZE_LAWS[resize][0]),
                multiple=fields.take("multiple", int),
                resample=fields.take("resample", int),
                crop_size=_integers(fields, "crop_size", 2 if fields.take("crop_size", list) else 0),
                rescale_factor=number(fields, "rescale_factor"),
                image_mean=by_channel(fields, "image_mean", fields.take("image_mean", list)),
                image_std=by_channel(fields, "image_std", fields.take("image_std", list)),
                pad=pad,
                pad_size=_integers(fields, "pad_size", PAD_LAWS[pad][0]),
            ),
            fields,
        )


def checked(settings: ImageSettings, fields: Fields) -> ImageSettings:
    """`settings`, which were read from `fields`, if every number is in range.

    Raises:
        ManifestError: One is not.
    """
    lengths = (*settings.size, *settings.crop_size, *settings.pad_size, settings.multiple)
    if not all(1 <= length <= MAX_EDGE for length in lengths):
        fields.refuse(f"a size among {str(lengths)[:80]}", f"sizes from 1 to {MAX_EDGE}")
    if settings.resample not in RESAMPLES:
        fields.refuse(f"the filter {str(settings.resample)[:20]}", "Pillow's number of a filter, 0 to 5")
    # compared so that a NaN fails
    if not all(1 / MAX_NUMBER <= factor <= MAX_NUMBER for factor in (settings.rescale_factor, *settings.image_std)):
        fields.refuse(
            f"'rescale_factor' {settings.rescale_factor} and 'image_std' {str(settings.image_std)[:80]}",
            f"numbers from {1 / MAX_NUMBER} to {MAX_NUMBER}",
        )
    return settings


def number(fields: Fields, name: str) -> float:
    """The field `name` as a number that float32 has room for.

    Raises:
        ManifestError: It is none.
    """
    found = fields.value.get(name)
    if type(found) is int and abs(found) > MAX_NUMBER:  # of any number of digits, and no float then
        fields.refuse(f"{name!r} is {str(found)[:20]}", f"a number up to {MAX_NUMBER}")
    return fields.take(name, float)


def by_channel(fields: Fields, name: str, found: Sequence[Any]) -> tuple[float, float, float]:
    """`found`, which stood in the field `name`, as a number for each of red, green and blue.

    Raises:
        ManifestError: It is something else.
    """
    if len(found) != 3 or not all(type(item) in {int, float} and abs(item) <= MAX_NUMBER for item in found):
        fields.refuse(f"{name!r} is {str(found)[:80]}", f"3 numbers from -{MAX_NUMBER} to {MAX_NUMBER}")
    red, green, blue = map(float, found)
    return red, green, blue


def output_size(settings: ImageSettings, height: int, width: int) -> Size:
    """The height and width of the pixel values of an image; to the `batch` law of padding, of an image alone.

    Raises:
        InputError: There is no such size: it would be empty, larger than `MAX_PIXELS`, or larger than it is padded to.
    """
    return padded_size(settings, *content_size(settings, height, width))


def resized_size(settings: ImageSettings, height: int, width: int) -> Size:
    """The height and width that an image is resized to.

    Raises:
        InputError: The image, or what it would become, is empty or larger than `MAX_PIXELS`.
    """
    require_pixels(height, width, f"an image of height {height} and width {width}")
    resized = RESIZE_LAWS[settings.resize][1](settings, height, width)
    require_pixels(*resized, f"an image of height {height} and width {width}, resized to {resized[0]} and {resized[1]}")
    return resized


def content_size(settings: ImageSettings, height: int, width: int) -> Size:
    """The height and width of an image that was resized and cropped, before it is padded.

    Raises:
        InputError: As `resized_size`.
    """
    resized = resized_size(settings, height, width)
    return _pair(settings.crop_size) if settings.crop_size else resized


def padded_size(settings: ImageSettings, height: int, width: int) -> Size:
    """The height and width of pixel values of which the image takes `height` and `width`.

    Raises:
        InputError: The image is larger than it is to be padded to, or becomes larger than `MAX_PIXELS`.
    """
    padded = PAD_LAWS[settings.pad][1](settings, height, width)
    if padded[0] < height or padded[1] < width:
        raise InputError(
            found=f"an image of height {height} and width {width} once resized",
            wanted=f"no more than {padded[0]} and {padded[1]}, which it is padded to",
            remedy="make the image smaller",
        )
    require_pixels(*padded, f"an image of height {height} and width {width}, padded to {padded[0]} and {padded[1]}")
    return padded


def require_pixels(height: int, width: int, found: str) -> None:
    """Refuse a size that is empty or larger than `MAX_PIXELS`.

    Raises:
        InputError: It is.
    """
    if height < 1 or width < 1 or height * width > MAX_PIXELS:
        raise InputError(
            found=found,
            wanted=f"1 to {MAX_PIXELS} pixels",
            remedy="resize or cut the image to a more ordinary size first",
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
    return _beside(edge, limited, height, width)


def _two_edges_of_16(settings: ImageSettings, height: int, width: int) -> Size:
    """As YOLOS has it, which asks only of a landscape whether its edge is right already."""
    edge, limited = _limited_edge(settings, height, width)
    is_right = height <= width and height == edge
    new_height, new_width = (height, width) if is_right else _beside(edge, limited, height, width)
    return new_height - new_height % 16, new_width - new_width % 16


def _limited_edge(settings: ImageSettings, height: int, width: int) -> tuple[int, float]:
    """The shortest edge that keeps the longest one in its limit, rounded and as it is."""
    shortest, longest = settings.size
    short, long = float(min(height, width)), float(max(height, width))
    if long / short * shortest <= longest:
        return shortest, shortest
    limited = longest * short / long
    return round(limited), limited


def _beside(edge: int, limited: float, height: int, width: int) -> Size:
    return (int(limited * height / width), edge) if width < height else (edge, int(limited * width / height))


def _within(settings: ImageSettings, height: int, width: int) -> Size:
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


def _as_it_is(_settings: ImageSettings, height: int, width: int) -> Size:
    return height, width


def _to_pad_size(settings: ImageSettings, _height: int, _width: int) -> Size:
    return _pair(settings.pad_size)


def _to_divisor(settings: ImageSettings, height: int, width: int) -> Size:
    (divisor,) = settings.pad_size
    return math.ceil(height / divisor) * divisor, math.ceil(width / divisor) * divisor


Law = Callable[[ImageSettings, int, int], Size]

RESIZE_LAWS: dict[str, tuple[int, Law]] = {
    "none": (0, _as_it_is),
    "exact": (2, _exact),
    "shortest_edge": (1, _shortest_edge),
    "two_edges": (2, _two_edges),
    "two_edges_of_16": (2, _two_edges_of_16),
    "within": (2, _within),
    "multiples": (2, _multiples),
    "multiples_keeping_aspect": (2, _multiples_keeping_aspect),
}
"""How many numbers `size` has under the law, and the size it gives an image; see `docs/reference/formats.md`."""

PAD_LAWS: dict[str, tuple[int, Law]] = {
    "none": (0, _as_it_is),
    "batch": (0, _as_it_is),
    "exact": (2, _to_pad_size),
    "divisor": (1, _to_divisor),
}
"""How many numbers `pad_size` has by the law, and the size that it gives an image alone."""


def _fixed_resize(settings: ImageSettings) -> Size | None:
    if settings.resize == "exact":
        return _pair(settings.size)
    # a length right between two multiples is rounded to either of them, as the last bit of the scale has it
    between = any(2 * length % settings.multiple == 0 != length % settings.multiple for length in settings.size)
    if settings.resize == "multiples" and not between:
        return _in_multiples(settings, *settings.size)
    return None


def _pair(numbers: tuple[int, ...]) -> Size:
    height, width = numbers
    return height, width


def _one_of(fields: Fields, name: str, laws: dict[str, tuple[int, Law]]) -> str:
    law = fields.take(name, str)
    if law not in laws:
        fields.refuse(f"{name!r} is {law[:40]!r}", f"one of {', '.join(laws)}", "install a newer edge-prompt")
    return law


def _integers(fields: Fields, name: str, count: int) -> tuple[int, ...]:
    found = fields.take(name, list)
    if len(found) != count or not all(type(number) is int for number in found):
        fields.refuse(f"{name!r} is {str(found)[:80]}", f"a list of {count} integers")
    return tuple(found)
