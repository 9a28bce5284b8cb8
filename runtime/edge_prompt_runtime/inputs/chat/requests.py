"""Requests to causal language models: texts, tokens, or the messages of a chat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_prompt.base.errors import InputError
from edge_prompt.formats.bundle import Bundle
from edge_prompt.formats.preprocessing import LanguagePreprocessing
from edge_prompt_runtime.inputs.chat import ChatTemplate, Message, read_chat_template
from edge_prompt_runtime.inputs.requests import Request
from edge_prompt_runtime.inputs.text.tokenizer import begun_tokens, fault_of_text, read_tokenizer, tokenizer_path
from edge_prompt_runtime.tasks.task import Task

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Int64 = NDArray[np.int64]


class Reader:
    """Reads texts, tokens and chats for a causal language model; see `Requests`."""

    masked = True

    def __init__(self, bundle: Bundle) -> None:
        preprocessing = bundle.manifest.preprocessing
        assert isinstance(preprocessing, LanguagePreprocessing)  # noqa: S101 - this reader is chosen by the preprocessing
        self._bundle = bundle
        self._vocab_size = preprocessing.vocab_size
        self._tokenizer: Tokenizer | None = None
        self._chat_template: ChatTemplate | None = None

    @property
    def tokenizer(self) -> Tokenizer:
        """The bundle's tokenizer.

        Raises:
            InputError: The bundle has no tokenizer.
            ManifestError: The tokenizer is altered or cannot be read.
        """
        if self._tokenizer is None:
            self._tokenizer = read_tokenizer(tokenizer_path(self._bundle))
        return self._tokenizer

    def items(self, inputs: Any) -> tuple[list[Any], bool]:
        """Accept a text, token ids or the messages of a chat, or several of these."""
        if isinstance(inputs, str):
            return [inputs], True
        if isinstance(inputs, np.ndarray):
            return ([inputs], True) if inputs.ndim == 1 else (list(inputs), False)
        if isinstance(inputs, Sequence) and not isinstance(inputs, bytes | bytearray):
            single = bool(inputs) and isinstance(inputs[0], int | np.integer | Mapping)
            return ([inputs], True) if single else (list(inputs), False)
        raise InputError(
            found=f"the request is of type {type(inputs).__name__}, which a language model cannot read",
            wanted="a text, token ids, the messages of a chat, or several of these",
            remedy="pass one of these",
        )

    def encode(self, items: Sequence[Any], tasks: Sequence[Task]) -> Request:
        """Tokenise each row for its task: texts are inserted into its template, tokens and messages are not."""
        rows = [self._tokens(row, item, task) for row, (item, task) in enumerate(zip(items, tasks, strict=True))]
        shape = (len(rows), max(map(len, rows)))
        input_ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for row, tokens in enumerate(rows):
            input_ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        request = self._request(input_ids, mask)
        self.require_room(request, tasks)
        return request

    def take(self, arrays: Mapping[str, NDArray[Any]]) -> Request:
        """Check token arrays: `input_ids [batch, sequence]` and, optionally, `attention_mask` of that shape."""
        unknown = arrays.keys() - {"input_ids", "attention_mask"}
        if unknown or "input_ids" not in arrays:
            raise InputError(
                found=f"the arrays are named {sorted(arrays)}",
                wanted="input_ids and, optionally, attention_mask",
                remedy="rename or leave out the others, and choose a prompt with task=…",
            )
        input_ids = np.asarray(arrays["input_ids"])
        mask = np.asarray(arrays.get("attention_mask", np.ones_like(input_ids)))
        for name, array in (("input_ids", input_ids), ("attention_mask", mask)):
            if array.ndim != 2 or 0 in array.shape or array.shape != input_ids.shape or array.dtype.kind not in "iub":
                raise InputError(
                    found=f"{name} has shape {list(array.shape)} and dtype {array.dtype}",
                    wanted="integers of shape [batch, sequence], neither of them 0, the same for both arrays",
                    remedy="add the batch dimension, or take both arrays from the same tokenizer call",
                )
        return self._request(input_ids.astype(np.int64, copy=False), mask.astype(np.int64, copy=False))

    def require_room(self, request: Request, tasks: Sequence[Task]) -> None:
        """Check that the tokens of each row fit next to the prompt of its task."""
        for row, task in enumerate(tasks):
            length = int(request.arrays["attention_mask"][row].sum())
            if length > task.max_tokens:
                raise InputError(
                    found=f"row {row} has {length} tokens for {task.described}",
                    wanted=f"at most {task.max_tokens}",
                    remedy="shorten the row, or use a shorter prompt",
                )

    def _request(self, input_ids: Int64, mask: Int64) -> Request:
        least, most = int(input_ids.min()), int(input_ids.max())
        if least < 0 or most >= self._vocab_size:
            raise InputError(
                found=f"the token ids range from {least} to {most}",
                wanted=f"ids from 0 to {self._vocab_size - 1}",
                remedy="tokenise with the bundle's own tokenizer",
            )
        if mask.min() < 0 or mask.max() > 1 or not mask.any(1).all():
            raise InputError(
                found="the attention_mask contains values other than 0 and 1, or a row of zeros",
                wanted="1 for real tokens, with at least one real token per row",
                remedy="correct the mask",
            )
        return Request({"input_ids": input_ids, "attention_mask": mask}, len(input_ids))

    def _tokens(self, row: int, item: Any, task: Task) -> Int64:
        if isinstance(item, str):
            tokens = self.tokens_of_text(row, task.filled(item))
        elif _is_chat(item):
            tokens = self.tokens_of_chat(item)
        else:
            tokens = np.asarray(item)
            if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
                raise InputError(
                    found=f"row {row} is {str(item)[:60]!r}",
                    wanted="a text, token ids or the messages of a chat",
                    remedy="pass one of these",
                )
        if not len(tokens):
            raise InputError(found=f"row {row} has no tokens", wanted="at least one token", remedy="leave the row out")
        return tokens.astype(np.int64, copy=False)

    def tokens_of_text(self, row: int, text: str) -> Int64:
        """Return the tokens of a text with the beginning-of-text token; see `begun_tokens`."""
        fault = fault_of_text(text)
        if fault:
            raise InputError(found=f"text {row} is {fault}", wanted="a non-empty string", remedy="leave that text out")
        return np.array(begun_tokens(self.tokenizer, text), np.int64)

    def tokens_of_chat(self, messages: Sequence[Message]) -> Int64:
        """Return the tokens of a chat in the model's own template, up to where the model's answer begins.

        Raises:
            InputError: The bundle has no chat template, or the messages are malformed.
            ChatTemplateError: The template rejects these messages.
            MissingExtraError: jinja2 is not installed.
        """
        if self._chat_template is None:
            self._chat_template = read_chat_template(self._bundle)
        if self._chat_template is None:
            raise InputError(
                found=f"the request is a chat, but {self._bundle.folder} has no chat template",
                wanted="a text",
                remedy="format the text as the model was trained on it, or use a model tuned for chats",
            )
        text = self._chat_template.render(messages)
        return np.array(self.tokenizer.encode(text, add_special_tokens=False).ids, np.int64)


def _is_chat(item: Any) -> bool:
    return isinstance(item, Sequence) and bool(item) and isinstance(item[0], Mapping)
