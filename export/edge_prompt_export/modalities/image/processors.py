"""Convert transformers' `preprocessor_config.json` to image settings.

Each image processor of transformers has its own defaults for missing fields, and some have their own rule for the size;
`FAMILIES` lists them. Steps of transformers that this package does not implement raise an error and are never skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from edge_prompt.base.errors import ManifestError
from edge_prompt.formats.image_settings import MAX_NUMBER, ImageSettings
from edge_prompt.untrusted.json_fields import Fields
from edge_prompt.untrusted.records import require_consistent

_CONVNEXT_WARPS_FROM = 384
"""ConvNeXT resizes and crops for sizes below this, and warps for this size and above."""

_YOLOS_LONGEST = 1333
"""The longest edge of YOLOS if the size is one number and `max_size` is missing."""

_BILINEAR, _BICUBIC = 2, 3

_HALF = (0.5, 0.5, 0.5)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CLIP_MEAN, _CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)

_SIZE_LAWS = {
    frozenset({"height", "width"}): "exact",
    frozenset({"shortest_edge"}): "shortest_edge",
    frozenset({"shortest_edge", "longest_edge"}): "two_edges",
    frozenset({"max_height", "max_width"}): "within",
}
"""The rule of resizing by the keys of the size, for most families."""

_SIZE_KEYS = ("height", "width", "shortest_edge", "longest_edge", "max_height", "max_width")
"""The keys of a size, in the order of a rule's numbers."""

_READ = frozenset(
    {
        "image_processor_type",
        "feature_extractor_type",
        "do_resize",
        "size",
        "default_to_square",
        "resample",
        "do_center_crop",
        "crop_size",
        "do_rescale",
        "rescale_factor",
        "do_normalize",
        "image_mean",
        "image_std",
        "do_pad",
        "pad_size",
    }
)

_WITHOUT_EFFECT = frozenset(
    {
        "processor_class",
        "do_convert_rgb",
        "data_format",
        "input_data_format",
        "device",
        "return_tensors",
        "disable_grouping",
        "use_fast",
        "backend",
        "do_reduce_labels",
        "reduce_labels",
        "format",
        "do_convert_annotations",
        "_valid_processor_keys",
        "_valid_kwargs_names",
    }
)
"""Fields without effect here: images are always RGB with channels first, and labels matter only for training."""

T = TypeVar("T")

Own = Callable[[Fields, ImageSettings], ImageSettings]


def _nothing_of_its_own(_fields: Fields, settings: ImageSettings) -> ImageSettings:
    return settings


@dataclass(frozen=True)
class _Family:
    """The defaults of an image processor for fields that are missing in the file.

    Attributes:
        size: The size after resizing.
        resample: The resampling filter.
        image_mean: The mean of each channel.
        image_std: The standard deviation of each channel.
        square: Whether a size given as one number is a square; otherwise it is the shortest edge.
        crops: Whether images are cropped.
        crop_size: The edge of the cropped square.
        pads: Whether images are padded.
        steps: Which of the steps crop and pad the processor supports.
        size_laws: The forms of size that it supports, with the rule of resizing for each.
        own_fields: The fields that only this processor has.
        own: Applies these fields to the settings.
    """

    size: Mapping[str, int]
    resample: int = _BICUBIC
    image_mean: tuple[float, float, float] = _HALF
    image_std: tuple[float, float, float] = _HALF
    square: bool = True
    crops: bool = False
    crop_size: int | None = None
    pads: bool = False
    steps: frozenset[str] = frozenset({"do_center_crop", "do_pad"})
    size_laws: Mapping[frozenset[str], str] = field(default_factory=lambda: _SIZE_LAWS)
    own_fields: frozenset[str] = frozenset()
    own: Own = _nothing_of_its_own


def settings_of(config: Mapping[str, Any], where: str = "preprocessor_config.json") -> ImageSettings:
    """The settings of transformers' image processor for `config`.

    Args:
        config: The object in `preprocessor_config.json`, or the result of an image processor's `to_dict`. Untrusted.
        where: Its name, for messages.

    Raises:
        ManifestError: The image processor is not in `FAMILIES`, or a field is malformed or not implemented.
    """
    fields = Fields(config, where, ManifestError)
    family = _family(fields)
    _refuse_unknown(fields, family)
    crops = family.crops if (flag := fields.optional("do_center_crop", bool)) is None else flag
    settings = ImageSettings(
        *_resize(fields, family),
        multiple=1,
        resample=_or(fields.optional("resample", int), family.resample),
        crop_size=_height_and_width(fields, "crop_size", family.crop_size) if crops else (),
        rescale_factor=_optional_number(fields, "rescale_factor", 1 / 255) if _on(fields, "do_rescale") else 1.0,
        image_mean=(0.0, 0.0, 0.0),
        image_std=(1.0, 1.0, 1.0),
        pad="none",
        pad_size=(),
    )
    if _on(fields, "do_normalize"):
        settings = replace(
            settings,
            image_mean=_by_channel(fields, "image_mean", family.image_mean),
            image_std=_by_channel(fields, "image_std", family.image_std),
        )
    if _on(fields, "do_pad", otherwise=family.pads):
        given = fields.value.get("pad_size") is not None
        size = _height_and_width(fields, "pad_size", None) if given else ()
        settings = replace(settings, pad="exact" if given else "batch", pad_size=size)
    settings = family.own(fields, settings)
    require_consistent(settings, fields)
    return settings


def _family(fields: Fields) -> _Family:
    name = fields.optional("image_processor_type", str)
    if name is None:
        name = (fields.optional("feature_extractor_type", str) or "").replace("FeatureExtractor", "ImageProcessor")
    family = FAMILIES.get(name.removesuffix("Fast").removesuffix("Pil").removesuffix("ImageProcessor"))
    if family is None or not name:
        known = ", ".join(f"{family}ImageProcessor" for family in FAMILIES)
        fields.refuse(
            f"the image processor {name[:60]!r}" if name else "no 'image_processor_type'",
            f"one of {known}",
            "use a network with one of these image processors, or pass pixel values",
        )
    return family


def _refuse_unknown(fields: Fields, family: _Family) -> None:
    """Refuse fields that are set but not supported, since their effect is unknown."""
    known = _READ | _WITHOUT_EFFECT | family.own_fields
    for name, value in fields.value.items():
        if name not in known and value is not None and value is not False:
            fields.refuse(
                f"{name[:60]!r} is {str(value)[:60]}",
                "settings that this image processor has",
                "remove the field if it changes nothing",
            )
    for name in ("do_center_crop", "do_pad"):
        if name not in family.steps and fields.optional(name, bool):
            fields.refuse(f"{name!r} is true", "a step that this image processor has", "set the field to false")


def _resize(fields: Fields, family: _Family) -> tuple[str, tuple[int, ...]]:
    """The rule of resizing and its numbers."""
    if not _on(fields, "do_resize"):
        return "none", ()
    found = fields.value.get("size")
    square = _on(fields, "default_to_square", otherwise=family.square)
    size = dict(family.size) if found is None else _as_mapping(fields, found, square=square)
    law = family.size_laws.get(frozenset(size))
    if law is None:
        wanted = " or ".join(" and ".join(sorted(keys)) for keys in family.size_laws)
        fields.refuse(f"'size' is {str(found)[:80]}", f"a size of {wanted}")
    inside = Fields(size, f"{fields.where}: size", ManifestError)
    return law, tuple(inside.size(key, least=1) for key in _SIZE_KEYS if key in size)


def _as_mapping(fields: Fields, found: object, *, square: bool) -> dict[str, Any]:
    """Convert a size given as one or two numbers, as in old files, to the mapping that new files use."""
    if isinstance(found, Mapping):
        return dict(found)
    if isinstance(found, (list, tuple)) and len(found) == 2:
        return dict(zip(("height", "width"), found, strict=True))
    edges = ("height", "width") if square else ("shortest_edge",)
    return dict.fromkeys(edges, fields.take("size", int))


def _height_and_width(fields: Fields, name: str, otherwise: int | None) -> tuple[int, ...]:
    found = fields.value.get(name, otherwise)
    found = otherwise if found is None else found
    if isinstance(found, int):
        found = {"height": found, "width": found}
    if isinstance(found, (list, tuple)) and len(found) == 2:
        found = dict(zip(("height", "width"), found, strict=True))
    if not isinstance(found, Mapping) or set(found) != {"height", "width"}:
        fields.refuse(f"{name!r} is {str(found)[:80]}", "a height and a width")
    inside = Fields(found, f"{fields.where}: {name}", ManifestError)
    return inside.size("height", least=1), inside.size("width", least=1)


def _by_channel(fields: Fields, name: str, otherwise: tuple[float, float, float]) -> tuple[float, float, float]:
    found = fields.value.get(name)
    found = otherwise if found is None else found
    found = found if isinstance(found, (list, tuple)) else [found] * 3
    if len(found) != 3 or not all(type(item) in {int, float} and abs(item) <= MAX_NUMBER for item in found):
        fields.refuse(f"{name!r} is {str(found)[:80]}", f"3 numbers from -{MAX_NUMBER} to {MAX_NUMBER}")
    red, green, blue = map(float, found)
    return red, green, blue


def _optional_number(fields: Fields, name: str, otherwise: float) -> float:
    return _or(fields.optional(name, float), otherwise)


def _on(fields: Fields, name: str, *, otherwise: bool = True) -> bool:
    return _or(fields.optional(name, bool), otherwise)


def _or(found: T | None, otherwise: T) -> T:
    return otherwise if found is None else found


def _own_of_convnext(fields: Fields, settings: ImageSettings) -> ImageSettings:
    """For small sizes, resize to a larger size and crop the centre; for large sizes, warp."""
    if settings.resize == "none":
        return settings
    (edge,) = settings.size
    if edge >= _CONVNEXT_WARPS_FROM:
        return replace(settings, resize="exact", size=(edge, edge))
    if settings.crop_size:
        fields.refuse("'do_center_crop' is true", "only the crop of crop_pct", "set the field to false")
    part = _optional_number(fields, "crop_pct", 224 / 256)
    if not 0 < part <= 1:
        fields.refuse(f"'crop_pct' is {part}", "more than 0 and at most 1")
    return replace(settings, size=(int(min(edge / part, 2**31)),), crop_size=(edge, edge))


def _own_of_dpt(fields: Fields, settings: ImageSettings) -> ImageSettings:
    """Resize to multiples of a number, and pad to a divisor, which is DPT's only kind of padding."""
    divisor = fields.optional("size_divisor", int)
    if settings.pad == "none" or divisor is None:
        settings = replace(settings, pad="none", pad_size=())
    else:
        settings = replace(settings, pad="divisor", pad_size=(divisor,))
    if settings.resize == "none":
        return settings
    keeps = _on(fields, "keep_aspect_ratio", otherwise=False)
    multiple = _or(fields.optional("ensure_multiple_of", int), 1)
    return replace(settings, resize="multiples_keeping_aspect" if keeps else "multiples", multiple=multiple)


def _own_of_yolos(fields: Fields, settings: ImageSettings) -> ImageSettings:
    """Derive two edges from a size of one number, and support the former name of the padding field."""
    if "do_pad" not in fields.value and not _on(fields, "pad_and_return_pixel_mask"):
        settings = replace(settings, pad="none", pad_size=())
    if settings.resize == "shortest_edge":
        if isinstance(fields.value.get("size"), Mapping):
            fields.refuse("'size' has a shortest_edge only", "a longest_edge too")
        longest = _or(fields.optional("max_size", int), _YOLOS_LONGEST)
        settings = replace(settings, resize="two_edges_of_16", size=(*settings.size, longest))
    return settings


FAMILIES: Mapping[str, _Family] = {
    "ViT": _Family({"height": 224, "width": 224}, resample=_BILINEAR),
    "DeiT": _Family({"height": 256, "width": 256}, crops=True, crop_size=224),
    "Bit": _Family({"shortest_edge": 224}, _BICUBIC, _CLIP_MEAN, _CLIP_STD, square=False, crops=True, crop_size=224),
    "CLIP": _Family({"shortest_edge": 224}, _BICUBIC, _CLIP_MEAN, _CLIP_STD, square=False, crops=True, crop_size=224),
    "Siglip": _Family({"height": 224, "width": 224}, square=False),
    "Beit": _Family({"height": 224, "width": 224}, crop_size=224, steps=frozenset({"do_center_crop"})),
    "Segformer": _Family({"height": 512, "width": 512}, _BILINEAR, _IMAGENET_MEAN, _IMAGENET_STD, steps=frozenset()),
    "ConvNext": _Family(
        {"shortest_edge": 384},
        square=False,
        steps=frozenset({"do_center_crop"}),
        size_laws={frozenset({"shortest_edge"}): "shortest_edge"},
        own_fields=frozenset({"crop_pct"}),
        own=_own_of_convnext,
    ),
    "DPT": _Family(
        {"height": 384, "width": 384},
        steps=frozenset({"do_pad"}),
        size_laws={frozenset({"height", "width"}): "multiples"},
        own_fields=frozenset({"keep_aspect_ratio", "ensure_multiple_of", "size_divisor"}),
        own=_own_of_dpt,
    ),
    "Yolos": _Family(
        {"shortest_edge": 800, "longest_edge": 1333},
        _BILINEAR,
        _IMAGENET_MEAN,
        _IMAGENET_STD,
        square=False,
        pads=True,
        steps=frozenset({"do_pad"}),
        size_laws={
            **_SIZE_LAWS,
            frozenset({"shortest_edge", "longest_edge"}): "two_edges_of_16",
        },
        own_fields=frozenset({"max_size", "pad_and_return_pixel_mask"}),
        own=_own_of_yolos,
    ),
}
"""The supported image processors, by name without the common ending `ImageProcessor`."""
