"""Tokenises texts with the bundle's own `tokenizer.json`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_prompt.base.errors import InputError, ManifestError
from edge_prompt.formats.bundle import TOKENIZER_NAME, Bundle
from edge_prompt.formats.card import TEMPLATE_FIELD
from edge_prompt.formats.preprocessing import TextPreprocessing
from edge_prompt_runtime.tasks.task import Task

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer


class TruncationWarning(UserWarning):
    """A text was longer than the backbone allows, so its end was cut off."""


@dataclass(frozen=True)
class TokenBatch:
    """A batch of token rows, padded to the longest.

    Attributes:
        input_ids: `[batch, sequence]` int64.
        attention_mask: `[batch, sequence]` int64, 1 for real tokens.
        token_type_ids: `[batch, sequence]` int64.
        offsets: For each row, the start and end of each token in the text, in characters; empty for the caller's own
            arrays.
    """

    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    token_type_ids: NDArray[np.int64]
    offsets: tuple[tuple[tuple[int, int], ...], ...] = ()


class TextTokenizer:
    """The tokenizer of a bundle. Thread-safe.

    A `tokenizers.Tokenizer` keeps its truncation as state, so this holds one tokenizer per maximum length.

    Raises:
        InputError: The bundle has no tokenizer.
        ManifestError: The tokenizer is altered or cannot be read.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._path = tokenizer_path(bundle)
        preprocessing = bundle.manifest.preprocessing
        assert isinstance(preprocessing, TextPreprocessing)  # noqa: S101 - text requests read it
        self._pad_token_id = preprocessing.pad_token_id
        self._by_length: dict[int, Tokenizer] = {}

    def encode(self, texts: Sequence[str], tasks: Sequence[Task]) -> TokenBatch:
        """Tokenise `texts`, each inserted into the template of its task and truncated to the length that fits.

        Raises:
            InputError: A text is not a string, or is empty.

        Warns:
            TruncationWarning: A text was truncated.
        """
        for row, text in enumerate(texts):
            fault = fault_of_text(text)
            if fault:
                raise InputError(
                    found=f"text {row} is {fault}",
                    wanted="a non-empty string",
                    remedy="leave that text out",
                )
        encodings = [self._encode_row(text, task) for text, task in zip(texts, tasks, strict=True)]
        cut = [row for row, encoding in enumerate(encodings) if encoding.overflowing]
        if cut:
            rows = ", ".join(map(str, cut[:8])) + (", …" if len(cut) > 8 else "")
            limit = tasks[cut[0]].max_tokens
            subject = f"text {rows} was" if len(cut) == 1 else f"texts {rows} were"
            warnings.warn(f"{subject} truncated to {limit} tokens", TruncationWarning, stacklevel=6)
        return self._batch(encodings, [_shift(task) for task in tasks])

    def _encode_row(self, text: str, task: Task) -> Encoding:
        return self._tokenizer(task.max_tokens).encode(task.filled(text))

    def _tokenizer(self, max_tokens: int) -> Tokenizer:
        tokenizer = self._by_length.get(max_tokens)
        if tokenizer is None:
            tokenizer = read_tokenizer(self._path)
            tokenizer.no_padding()
            tokenizer.enable_truncation(max_tokens)
            self._by_length[max_tokens] = tokenizer
        return tokenizer

    def _batch(self, encodings: Sequence[Encoding], shifts: Sequence[int]) -> TokenBatch:
        shape = (len(encodings), max(len(encoding) for encoding in encodings))
        input_ids = np.full(shape, self._pad_token_id, np.int64)
        attention_mask = np.zeros(shape, np.int64)
        token_type_ids = np.zeros(shape, np.int64)
        for row, encoding in enumerate(encodings):
            length = len(encoding)
            input_ids[row, :length] = encoding.ids
            attention_mask[row, :length] = 1
            token_type_ids[row, :length] = encoding.type_ids
        offsets = tuple(
            tuple((start - shift, end - shift) for start, end in encoding.offsets)
            for encoding, shift in zip(encodings, shifts, strict=True)
        )
        return TokenBatch(input_ids, attention_mask, token_type_ids, offsets)


def fault_of_text(text: object) -> str:
    """Return what is wrong with a text; empty if nothing is."""
    if not isinstance(text, str):
        return type(text).__name__
    try:
        text.encode()
    except UnicodeEncodeError:  # lone surrogates, which come from invalid UTF-8 on a command line
        return "not valid Unicode"
    return "" if text.strip() else "empty"


def _shift(task: Task) -> int:
    """Number of characters that the task's template puts before the text."""
    return task.template.index(TEMPLATE_FIELD)


def tokenizer_path(bundle: Bundle) -> Path:
    """Return the path of the bundle's tokenizer.

    Raises:
        InputError: The bundle has no tokenizer.
        ManifestError: The tokenizer is altered.
    """
    path = bundle.file(TOKENIZER_NAME)
    if path is None:
        raise InputError(
            found=f"{bundle.folder} has no {TOKENIZER_NAME}",
            wanted="tokens instead of texts",
            remedy="tokenise the texts yourself and pass their token ids",
        )
    return path


def read_tokenizer(path: Path) -> Tokenizer:
    """Read the tokenizer at `path`.

    Raises:
        ManifestError: The file cannot be read.
    """
    from tokenizers import Tokenizer  # noqa: PLC0415 - only requests with texts need it

    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise ManifestError(
            found=f"{path} cannot be read ({error})",
            wanted="a tokenizer file of the tokenizers library",
            remedy="export the backbone again",
        ) from error


def begun_tokens(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the tokens of a text with the tokenizer's beginning-of-text token, which is not added twice.

    A template may already contain that token, as chat templates do.
    """
    plain: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    whole: list[int] = tokenizer.encode(text).ids
    return plain if plain and whole[:1] == plain[:1] else whole


def token_batch_of(feeds: dict[str, NDArray[Any]]) -> TokenBatch:
    """Check token arrays that the caller prepared; mask and token types are optional.

    Raises:
        InputError: `input_ids` is missing, or an array is unknown, has the wrong shape, or is not of integers.
    """
    unknown = feeds.keys() - set(TextPreprocessing.input_names)
    if unknown or "input_ids" not in feeds:
        raise InputError(
            found=f"the arrays are named {sorted(feeds)}",
            wanted="input_ids and, optionally, attention_mask and token_type_ids",
            remedy="rename or leave out the others, and choose a prompt with task=…",
        )
    input_ids = np.asarray(feeds["input_ids"])
    if input_ids.ndim != 2 or 0 in input_ids.shape:
        raise InputError(
            found=f"input_ids has shape {list(input_ids.shape)}",
            wanted="[batch, sequence], neither of them 0",
            remedy="add the batch dimension, or leave out empty requests",
        )
    arrays = {
        "input_ids": input_ids,
        "attention_mask": np.asarray(feeds.get("attention_mask", np.ones_like(input_ids))),
        "token_type_ids": np.asarray(feeds.get("token_type_ids", np.zeros_like(input_ids))),
    }
    for name, array in arrays.items():
        if array.shape != input_ids.shape or array.dtype.kind not in "iub":
            raise InputError(
                found=f"{name} has shape {list(array.shape)} and dtype {array.dtype}",
                wanted=f"integers of shape {list(input_ids.shape)}, like input_ids",
                remedy="take all arrays from the same tokenizer call",
            )
    ids, mask, types = (arrays[name].astype(np.int64, copy=False) for name in arrays)
    return TokenBatch(ids, mask, types)


def require_known_tokens(tokens: TokenBatch, preprocessing: TextPreprocessing) -> None:
    """Check the values of token arrays, because engines differ: for an unknown id, one fails and one returns garbage.

    Raises:
        InputError: An id or type is unknown to the backbone, the mask has values other than 0 and 1, or a row has no
            tokens.
    """
    ids, mask, types = tokens.input_ids, tokens.attention_mask, tokens.token_type_ids
    found = (
        ("input_ids", ids.min(), ids.max(), 0, preprocessing.vocab_size - 1),
        ("token_type_ids", types.min(), types.max(), 0, preprocessing.num_token_types - 1),
        ("attention_mask", mask.min(), mask.max(), 0, 1),
        ("the number of real tokens per row", mask.sum(1).min(), ids.shape[1], 1, ids.shape[1]),
    )
    for name, least, most, lowest, highest in found:
        if least < lowest or most > highest:
            raise InputError(
                found=f"{name} ranges from {least} to {most}",
                wanted=f"values from {lowest} to {highest}",
                remedy="tokenise with the bundle's own tokenizer",
            )
