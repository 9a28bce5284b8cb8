"""Requests with texts, for encoders: tokenised so that they fit next to the prompt of their task."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_prompt.base.errors import InputError
from edge_prompt.formats.bundle import Bundle
from edge_prompt.formats.card import TEMPLATE_FIELD
from edge_prompt.formats.preprocessing import TextPreprocessing
from edge_prompt_runtime.inputs.requests import Offsets, Request, Tasks, one_per_row, require_room
from edge_prompt_runtime.inputs.text.token_arrays import TokenArrays, checked_token_arrays
from edge_prompt_runtime.inputs.text.tokenizer import read_tokenizer, tokenizer_path
from edge_prompt_runtime.tasks.task import Task

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

MOST_LISTED = 8
"""The most truncated texts that a warning lists."""


class TruncationWarning(UserWarning):
    """A text was longer than the backbone allows, so its end was cut off."""


class TextRequests:
    """Reads texts; see `Requests`.

    A `tokenizers.Tokenizer` keeps its truncation as state, so this holds one tokenizer per maximum length.

    Args:
        bundle: The bundle, whose tokenizer is read when the first text is.
        preprocessing: How a text becomes the inputs of the backbone.
    """

    def __init__(self, bundle: Bundle, preprocessing: TextPreprocessing) -> None:
        self._bundle = bundle
        self._preprocessing = preprocessing
        self._tokenizers: dict[int, Tokenizer] = {}

    def read(self, inputs: Any, tasks: Tasks) -> Request:
        """Tokenise a text or several, or check token arrays by name.

        Each text is inserted into the template of its task and truncated to the length that fits.

        Raises:
            InputError: The bundle has no tokenizer, a text is not a string or is empty, or an array is malformed or
                too long.
            ManifestError: The tokenizer is altered or cannot be read.

        Warns:
            TruncationWarning: A text was truncated.
        """
        if isinstance(inputs, str) and isinstance(tasks, Task):  # the most frequent request, without a further call
            return self._tokenised([inputs], [tasks], single=True)
        if isinstance(inputs, Mapping):
            tokens = checked_token_arrays(inputs, self._preprocessing)
            row_tasks = one_per_row(tasks, len(tokens["input_ids"]))
            require_room(tokens, row_tasks)
            return Request(tokens, row_tasks)
        if isinstance(inputs, Sequence) and not isinstance(inputs, bytes | bytearray):
            texts = [inputs] if isinstance(inputs, str) else inputs
            return self._tokenised(texts, one_per_row(tasks, len(texts)), single=isinstance(inputs, str))
        raise InputError(
            found=f"the request is of type {type(inputs).__name__}, but this backbone reads texts",
            wanted="a text, several texts, or token arrays by name",
            remedy="pass one of these, or use a bundle for such requests",
        )

    def _tokenised(self, texts: Sequence[str], tasks: Sequence[Task], *, single: bool) -> Request:
        for row, text in enumerate(texts):
            fault = fault_of_text(text)
            if fault:
                raise InputError(
                    found=f"text {row} is {fault}",
                    wanted="a non-empty string",
                    remedy="leave that text out",
                )
        encodings = [self._encoded(text, task) for text, task in zip(texts, tasks, strict=True)]
        _warn_of_truncation(encodings, tasks)
        return Request(
            self._padded(encodings),
            tasks,
            single,
            texts=texts,
            offsets=lambda: tuple(map(_offsets_in_text, encodings, tasks)),
        )

    def _encoded(self, text: str, task: Task) -> Encoding:
        tokenizer = self._tokenizers.get(task.max_tokens)
        if tokenizer is None:
            tokenizer = read_tokenizer(tokenizer_path(self._bundle))
            tokenizer.enable_truncation(task.max_tokens)
            self._tokenizers[task.max_tokens] = tokenizer
        filled = text if task.template == TEMPLATE_FIELD else task.template.replace(TEMPLATE_FIELD, text)
        return tokenizer.encode(filled)

    def _padded(self, encodings: Sequence[Encoding]) -> TokenArrays:
        """The token arrays, padded to the longest row."""
        lengths = {len(encoding) for encoding in encodings}
        shape = (len(encodings), max(lengths))
        if len(lengths) == 1:  # nothing to pad, as for a single text
            return {
                "input_ids": np.array([encoding.ids for encoding in encodings], np.int64),
                "attention_mask": np.ones(shape, np.int64),
                "token_type_ids": np.array([encoding.type_ids for encoding in encodings], np.int64),
            }
        input_ids = np.full(shape, self._preprocessing.pad_token_id, np.int64)
        attention_mask, token_type_ids = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for row, encoding in enumerate(encodings):
            length = len(encoding)
            input_ids[row, :length] = encoding.ids
            attention_mask[row, :length] = 1
            token_type_ids[row, :length] = encoding.type_ids
        return {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}


def fault_of_text(text: object) -> str:
    """Return what is wrong with a text; empty if nothing is."""
    if not isinstance(text, str):
        return type(text).__name__
    try:
        text.encode()
    except UnicodeEncodeError:  # lone surrogates, which come from invalid UTF-8 on a command line
        return "not valid Unicode"
    return "" if text.strip() else "empty"


def _warn_of_truncation(encodings: Sequence[Encoding], tasks: Sequence[Task]) -> None:
    cut = [row for row, encoding in enumerate(encodings) if encoding.overflowing]
    if cut:
        rows = ", ".join(map(str, cut[:MOST_LISTED])) + (", …" if len(cut) > MOST_LISTED else "")
        limit = tasks[cut[0]].max_tokens
        subject = f"text {rows} was" if len(cut) == 1 else f"texts {rows} were"
        warnings.warn(f"{subject} truncated to {limit} tokens", TruncationWarning, stacklevel=5)


def _offsets_in_text(encoding: Encoding, task: Task) -> Offsets:
    """The start and end of each token in the caller's text, without what the task's template puts before it."""
    shift = task.template.index(TEMPLATE_FIELD)
    return tuple((start - shift, end - shift) for start, end in encoding.offsets)
