"""How a request becomes inputs: of texts to read, of texts to go on from, of images, or of arrays as they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edge_prompt.formats.image_settings import ImageSettings
from edge_prompt.untrusted.json_fields import Fields
from edge_prompt.untrusted.npy import MAX_RANK

LEAST_TOKENS = 3
"""Two special tokens, and one of a text: a backbone or a prompt that leaves less room is of no use."""

_CHANNELS_OF_SETTINGS = 3
"""What settings make of an image is red, green and blue."""

ARRAY_DTYPES = ("float32", "int64", "bool")
"""What an array of a request may be made of."""


@dataclass(frozen=True)
class TextPreprocessing:
    """How a text becomes the backbone's inputs, and a feature an embedding.

    Attributes:
        max_tokens: Tokens of a text that the backbone takes, special tokens included; the rest is cut off.
        max_positions: Positions it has for prefix, virtual tokens and tokens together; None if it counts no positions.
        vocab_size: How many tokens there are; an id is below.
        num_token_types: How many token types there are; at least 1.
        pad_token_id: The token that fills a row up.
        pooling: How token vectors become the feature: `mean` or `cls` of real tokens, or what the network's own head
            reads: `first`, the first position, or `pooler`, the network's own layer over it.
        normalize: Whether an embedding is scaled to length 1, as the backbone's authors have it.
    """

    max_tokens: int
    max_positions: int | None
    vocab_size: int
    num_token_types: int
    pad_token_id: int
    pooling: str
    normalize: bool

    input_names = ("input_ids", "attention_mask", "token_type_ids")
    """The inputs of a graph that a request fills; `token_type_ids` only where the network has types."""

    required_inputs = frozenset({"input_ids", "attention_mask"})

    def dtype_of(self, _name: str) -> str:
        """The dtype of a request's array."""
        return "int64"


@dataclass(frozen=True)
class LanguagePreprocessing:
    """How a text becomes the inputs of a causal language model.

    Attributes:
        max_positions: Positions it has for a prompt, a text and what is generated together.
        vocab_size: How many tokens there are; an id is below.
    """

    max_positions: int
    vocab_size: int

    input_names = ("input_ids", "attention_mask")
    """What a request is made of; `edge_prompt.formats.kv_cache_names` says what the runtime makes of it for a graph."""

    required_inputs = frozenset(input_names)

    @property
    def max_tokens(self) -> int:
        """Tokens of a text that fit beside no prompt."""
        return self.max_positions

    def dtype_of(self, _name: str) -> str:
        """The dtype of a request's array."""
        return "int64"


@dataclass(frozen=True)
class ImagePreprocessing:
    """How an image becomes the backbone's inputs.

    Attributes:
        channels: Channels of `pixel_values`.
        height: Its height in pixels, or None if it varies.
        width: Its width in pixels, or None if it varies.
        settings: How an image is resized, cut and normalised; None if the backbone did not say: then it takes arrays.
        pooling: How token vectors become the feature: `cls`, `mean` or `pooler`.
        normalize: Whether an embedding is scaled to length 1.
    """

    channels: int
    height: int | None
    width: int | None
    settings: ImageSettings | None
    pooling: str
    normalize: bool

    input_names = ("pixel_values",)
    required_inputs = frozenset(input_names)

    def dtype_of(self, _name: str) -> str:
        """The dtype of a request's array."""
        return "float32"


@dataclass(frozen=True)
class ArrayInput:
    """One array of a request.

    Attributes:
        dtype: One of `ARRAY_DTYPES`.
        shape: One length an axis; None where it is the request's own. The first axis is the batch.
    """

    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class ArrayPreprocessing:
    """A backbone of the user's own: a request is arrays, and nothing is done to them.

    Attributes:
        inputs: The arrays of a request, by name.
    """

    inputs: Mapping[str, ArrayInput]

    @property
    def input_names(self) -> tuple[str, ...]:
        """The inputs of a graph that a request fills."""
        return tuple(self.inputs)

    @property
    def required_inputs(self) -> frozenset[str]:
        """Those of them that it must have."""
        return frozenset(self.inputs)

    def dtype_of(self, name: str) -> str:
        """The dtype of a request's array."""
        return self.inputs[name].dtype


Preprocessing = TextPreprocessing | LanguagePreprocessing | ImagePreprocessing | ArrayPreprocessing

MODALITIES: dict[str, type[Preprocessing]] = {
    "text": TextPreprocessing,
    "language": LanguagePreprocessing,
    "image": ImagePreprocessing,
    "arrays": ArrayPreprocessing,
}
"""The word for each in a manifest."""


def modality_of(preprocessing: Preprocessing) -> str:
    """The word for it in a manifest."""
    return next(name for name, kind in MODALITIES.items() if isinstance(preprocessing, kind))


def preprocessing_as_json(preprocessing: Preprocessing) -> dict[str, Any]:
    """The object that a manifest holds."""
    return {"modality": modality_of(preprocessing), **asdict(preprocessing)}


def read_preprocessing(fields: Fields) -> Preprocessing:
    """Read and check the object of a manifest.

    Raises:
        ManifestError: It is malformed, or of a modality that this code does not know.
    """
    modality = fields.take("modality", str)
    if modality not in _READERS:
        fields.refuse(f"modality {modality[:40]!r}", f"one of {', '.join(_READERS)}", "install a newer edge-prompt")
    return _READERS[modality](fields)


def _read_text(fields: Fields) -> TextPreprocessing:
    return TextPreprocessing(
        max_tokens=fields.size("max_tokens", least=LEAST_TOKENS),
        max_positions=_optional_size(fields, "max_positions", 0),
        vocab_size=fields.size("vocab_size", least=1),
        num_token_types=fields.size("num_token_types", least=1),
        pad_token_id=fields.size("pad_token_id"),
        pooling=fields.take("pooling", str),
        normalize=fields.take("normalize", bool),
    )


def _read_language(fields: Fields) -> LanguagePreprocessing:
    return LanguagePreprocessing(
        max_positions=fields.size("max_positions", least=LEAST_TOKENS), vocab_size=fields.size("vocab_size", least=1)
    )


def _read_image(fields: Fields) -> ImagePreprocessing:
    height, width = _optional_size(fields, "height", 1), _optional_size(fields, "width", 1)
    if (height is None) is not (width is None):
        fields.refuse("a height without a width, or the other way round", "both or neither")
    channels = fields.size("channels", least=1)
    settings = None if fields.value.get("settings") is None else ImageSettings.from_fields(fields.inside("settings"))
    said = [channels, height, width]
    made = said if settings is None else [_CHANNELS_OF_SETTINGS, *(settings.fixed_size or (None, None))]
    if made != said:
        fields.refuse(f"settings that make {made} of an image", f"{said}, the channels, height and width beside them")
    return ImagePreprocessing(
        channels=channels,
        height=height,
        width=width,
        settings=settings,
        pooling=fields.take("pooling", str),
        normalize=fields.take("normalize", bool),
    )


def _read_arrays(fields: Fields) -> ArrayPreprocessing:
    inputs = fields.inside("inputs")
    if not inputs.value:
        inputs.refuse("no array", "at least one")
    return ArrayPreprocessing({name: _read_array(inputs.inside(name)) for name in inputs.value})


def _read_array(fields: Fields) -> ArrayInput:
    dtype, lengths = fields.take("dtype", str), fields.take("shape", list)
    if dtype not in ARRAY_DTYPES:
        fields.refuse(f"dtype {dtype[:20]!r}", f"one of {', '.join(ARRAY_DTYPES)}")
    fits = all(length is None or (type(length) is int and 0 < length < 2**31) for length in lengths)
    if not lengths or lengths[0] is not None or len(lengths) > MAX_RANK or not fits:
        fields.refuse(f"shape {str(lengths)[:80]}", f"1 to {MAX_RANK} lengths or nulls, the first, the batch, null")
    return ArrayInput(dtype, tuple(lengths))


def _optional_size(fields: Fields, name: str, least: int) -> int | None:
    return None if fields.value.get(name) is None else fields.size(name, least)


_READERS: dict[str, Callable[[Fields], Preprocessing]] = {
    "text": _read_text,
    "language": _read_language,
    "image": _read_image,
    "arrays": _read_arrays,
}
