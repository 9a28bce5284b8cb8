"""How a request becomes the inputs of a graph, by modality: text, language, image, or arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from edge_prompt.formats.image_settings import ImageSettings
from edge_prompt.untrusted.json_fields import Fields
from edge_prompt.untrusted.npy import MAX_RANK

LEAST_TOKENS = 3
"""The fewest tokens of an input: two special tokens and one token of text."""

_CHANNELS_OF_SETTINGS = 3
"""Image settings always produce the channels red, green and blue."""

ARRAY_DTYPES = ("float32", "int64", "bool")
"""The dtypes that an array of a request may have."""


@dataclass(frozen=True)
class TextPreprocessing:
    """How a text becomes the inputs of the backbone, and how its features become an embedding.

    Attributes:
        max_tokens: The maximum number of tokens per text, including special tokens; longer texts are truncated.
        max_positions: The number of positions for prefix, virtual tokens and tokens together; None if the backbone has
            no position limit.
        vocab_size: The size of the vocabulary.
        num_token_types: The number of token types; at least 1.
        pad_token_id: The id of the padding token.
        pooling: How token vectors become the feature: `mean` or `cls` of real tokens, or the input of the network's
            own head: `first`, the first position, or `pooler`, the network's own layer over it.
        normalize: Whether embeddings are L2-normalised, as the backbone's configuration says.
    """

    max_tokens: int
    max_positions: int | None
    vocab_size: int
    num_token_types: int
    pad_token_id: int
    pooling: str
    normalize: bool

    input_names = ("input_ids", "attention_mask", "token_type_ids")
    """The graph inputs that come from a request; `token_type_ids` only if the network has token types."""

    required_inputs = frozenset({"input_ids", "attention_mask"})

    def dtype_of(self, _name: str) -> str:
        """The dtype of a request's array."""
        return "int64"


@dataclass(frozen=True)
class LanguagePreprocessing:
    """How a text becomes the inputs of a causal language model.

    Attributes:
        max_positions: The number of positions for the prompt, the text and the generated tokens together.
        vocab_size: The size of the vocabulary.
    """

    max_positions: int
    vocab_size: int

    input_names = ("input_ids", "attention_mask")
    """The arrays of a request; see `edge_prompt.formats.kv_cache_names` for the inputs of the graph."""

    required_inputs = frozenset(input_names)

    @property
    def max_tokens(self) -> int:
        """The maximum number of tokens of a text without a prompt."""
        return self.max_positions

    def dtype_of(self, _name: str) -> str:
        """The dtype of a request's array."""
        return "int64"


@dataclass(frozen=True)
class ImagePreprocessing:
    """How an image becomes the inputs of the backbone.

    Attributes:
        channels: The number of channels of `pixel_values`.
        height: The height of `pixel_values`, or None if it varies.
        width: The width of `pixel_values`, or None if it varies.
        settings: How an image is resized, cropped and normalised; None if the backbone has no such configuration and
            accepts only arrays.
        pooling: How token vectors become the feature: `cls`, `mean` or `pooler`.
        normalize: Whether embeddings are L2-normalised.
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
        shape: One length per axis; None where each request chooses the length. The first axis is the batch.
    """

    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class ArrayPreprocessing:
    """The inputs of a custom backbone: the arrays of a request, without preprocessing.

    Attributes:
        inputs: The arrays of a request, by name.
    """

    inputs: Mapping[str, ArrayInput]

    @property
    def input_names(self) -> tuple[str, ...]:
        """The graph inputs that come from a request."""
        return tuple(self.inputs)

    @property
    def required_inputs(self) -> frozenset[str]:
        """The graph inputs that a request must provide."""
        return frozenset(self.inputs)

    def dtype_of(self, name: str) -> str:
        """The dtype of a request's array."""
        return self.inputs[name].dtype


EncoderPreprocessing = TextPreprocessing | ImagePreprocessing | ArrayPreprocessing
"""How a request becomes the inputs of a network that reads it as a whole."""

Preprocessing = EncoderPreprocessing | LanguagePreprocessing

MODALITIES: dict[str, type[Preprocessing]] = {
    "text": TextPreprocessing,
    "language": LanguagePreprocessing,
    "image": ImagePreprocessing,
    "arrays": ArrayPreprocessing,
}
"""The class of the preprocessing, by the name of the modality in a manifest."""


def modality_of(preprocessing: Preprocessing) -> str:
    """Return the name of the modality in a manifest."""
    return next(name for name, kind in MODALITIES.items() if isinstance(preprocessing, kind))


def preprocessing_as_json(preprocessing: Preprocessing) -> dict[str, Any]:
    """Return the preprocessing as the JSON object in a manifest."""
    return {"modality": modality_of(preprocessing), **asdict(preprocessing)}


def read_preprocessing(fields: Fields) -> Preprocessing:
    """Read and check the preprocessing in a manifest.

    Raises:
        ManifestError: It is malformed, or its modality is unknown.
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
        fields.refuse("only one of height and width", "both or neither")
    channels = fields.size("channels", least=1)
    settings = None if fields.value.get("settings") is None else ImageSettings.from_fields(fields.inside("settings"))
    said = [channels, height, width]
    made = said if settings is None else [_CHANNELS_OF_SETTINGS, *(settings.fixed_size or (None, None))]
    if made != said:
        fields.refuse(f"settings that produce {made}", f"the declared channels, height and width {said}")
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
        inputs.refuse("no arrays", "at least one")
    return ArrayPreprocessing({name: _read_array(inputs.inside(name)) for name in inputs.value})


def _read_array(fields: Fields) -> ArrayInput:
    dtype, lengths = fields.take("dtype", str), fields.take("shape", list)
    if dtype not in ARRAY_DTYPES:
        fields.refuse(f"dtype {dtype[:20]!r}", f"one of {', '.join(ARRAY_DTYPES)}")
    fits = all(length is None or (type(length) is int and 0 < length < 2**31) for length in lengths)
    if not lengths or lengths[0] is not None or len(lengths) > MAX_RANK or not fits:
        fields.refuse(f"shape {str(lengths)[:80]}", f"1 to {MAX_RANK} lengths or nulls, with null first for the batch")
    return ArrayInput(dtype, tuple(lengths))


def _optional_size(fields: Fields, name: str, least: int) -> int | None:
    return None if fields.value.get(name) is None else fields.size(name, least)


_READERS: dict[str, Callable[[Fields], Preprocessing]] = {
    "text": _read_text,
    "language": _read_language,
    "image": _read_image,
    "arrays": _read_arrays,
}
