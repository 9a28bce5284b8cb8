"""How a request becomes the inputs of a graph, by modality: text, language, image, or arrays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from edge_prompt.formats.image_settings import ImageSettings
from edge_prompt.untrusted.json_fields import NEWER, Fields
from edge_prompt.untrusted.npy import MAX_RANK
from edge_prompt.untrusted.records import Check, Count, Positive, count, one_of, read_record, require_consistent

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

    max_tokens: Annotated[int, count(LEAST_TOKENS)]
    max_positions: Count | None
    vocab_size: Positive
    num_token_types: Positive
    pad_token_id: Count
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

    max_positions: Annotated[int, count(LEAST_TOKENS)]
    vocab_size: Positive

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

    channels: Positive
    height: Positive | None
    width: Positive | None
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

    dtype: Annotated[str, one_of(ARRAY_DTYPES)]
    shape: tuple[Positive | None, ...]


@dataclass(frozen=True)
class ArrayPreprocessing:
    """The inputs of a custom backbone: the arrays of a request, without preprocessing.

    Attributes:
        inputs: The arrays of a request, by name.
    """

    inputs: Annotated[Mapping[str, ArrayInput], Check(len, "at least one array")]

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


def read_preprocessing(manifest: Fields, name: str) -> Preprocessing:
    """Read the field `name` of a manifest, whose `modality` says what its other fields are.

    Raises:
        ManifestError: It is malformed, or its modality is unknown.
    """
    fields = manifest.inside(name)
    modality = fields.take("modality", str)
    if modality not in MODALITIES:
        fields.refuse(f"modality {modality[:40]!r}", f"one of {', '.join(MODALITIES)}", NEWER)
    return read_record(MODALITIES[modality], fields)


@require_consistent.register
def _require_size_of_settings(image: ImagePreprocessing, fields: Fields) -> None:
    said = [image.channels, image.height, image.width]
    if (image.height is None) is not (image.width is None):
        fields.refuse("only one of height and width", "both or neither")
    if image.settings is None:
        return
    made = [_CHANNELS_OF_SETTINGS, *(image.settings.fixed_size or (None, None))]
    if made != said:
        fields.refuse(f"settings that produce {made}", f"the declared channels, height and width {said}")


@require_consistent.register
def _require_batch_axis(array: ArrayInput, fields: Fields) -> None:
    if not 1 <= len(array.shape) <= MAX_RANK or array.shape[0] is not None:
        fields.refuse(
            f"shape {str(list(array.shape))[:80]}", f"1 to {MAX_RANK} lengths or nulls, with null first for the batch"
        )
