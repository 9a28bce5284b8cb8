"""Requests with texts, for encoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from edge_prompt.base.errors import InputError
from edge_prompt.formats.bundle import Bundle
from edge_prompt.formats.preprocessing import TextPreprocessing
from edge_prompt_runtime.inputs.requests import Request
from edge_prompt_runtime.inputs.text.tokenizer import TextTokenizer, TokenBatch, require_known_tokens, token_batch_of
from edge_prompt_runtime.tasks.task import Task


class Reader:
    """Reads texts; see `Requests`."""

    masked = True

    def __init__(self, bundle: Bundle) -> None:
        preprocessing = bundle.manifest.preprocessing
        assert isinstance(preprocessing, TextPreprocessing)  # noqa: S101 - this reader is chosen by the preprocessing
        self._bundle = bundle
        self._preprocessing = preprocessing
        self._tokenizer: TextTokenizer | None = None

    def items(self, inputs: Any) -> tuple[list[Any], bool]:
        """Accept a text, or several."""
        if isinstance(inputs, str):
            return [inputs], True
        if isinstance(inputs, Sequence) and not isinstance(inputs, bytes | bytearray):
            return list(inputs), False
        raise InputError(
            found=f"the request is of type {type(inputs).__name__}, but this backbone reads texts",
            wanted="a text, several texts, or token arrays by name",
            remedy="pass one of these, or use a bundle for such requests",
        )

    def encode(self, items: Sequence[str], tasks: Sequence[Task]) -> Request:
        """Tokenise texts, each inserted into the template of its task and truncated to the length that fits."""
        if self._tokenizer is None:
            self._tokenizer = TextTokenizer(self._bundle)
        return _request(self._tokenizer.encode(items, tasks))

    def take(self, arrays: Mapping[str, NDArray[Any]]) -> Request:
        """Check token arrays."""
        tokens = token_batch_of(dict(arrays))
        require_known_tokens(tokens, self._preprocessing)
        return _request(tokens)

    def require_room(self, request: Request, tasks: Sequence[Task]) -> None:
        """Check that the tokens of each row fit next to the prompt of its task."""
        for row, task in enumerate(tasks):
            length = int(request.arrays["attention_mask"][row].sum())
            if length > task.max_tokens:
                raise InputError(
                    found=f"row {row} has {length} tokens for {task.described}",
                    wanted=f"at most {task.max_tokens}",
                    remedy="truncate the row, or use a shorter prompt",
                )


def _request(tokens: TokenBatch) -> Request:
    arrays = {
        "input_ids": tokens.input_ids,
        "attention_mask": tokens.attention_mask,
        "token_type_ids": tokens.token_type_ids,
    }
    return Request(arrays, len(tokens.input_ids), offsets=tokens.offsets)
