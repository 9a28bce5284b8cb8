"""The tokens of texts and chats, as a causal language model reads them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edge_prompt.base.errors import InputError
from edge_prompt.formats.bundle import TOKENIZER_NAME, Bundle
from edge_prompt_runtime.inputs.chat import ChatTemplate, Message, read_chat_template
from edge_prompt_runtime.inputs.text.requests import fault_of_text
from edge_prompt_runtime.inputs.text.tokenizer import read_tokenizer, tokenizer_path, tokens_with_bos

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Int64 = NDArray[np.int64]


class ChatTokenizer:
    """The tokenizer and the chat template of a bundle, each read when it is first needed. Thread-safe.

    Args:
        bundle: The bundle.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle

    @property
    def exists(self) -> bool:
        """Whether the bundle has a tokenizer; without one, requests are token ids."""
        return TOKENIZER_NAME in self._bundle.manifest.files

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer.

        Raises:
            InputError: The bundle has no tokenizer.
            ManifestError: The tokenizer is altered or cannot be read.
        """
        return read_tokenizer(tokenizer_path(self._bundle))

    @cached_property
    def _chat_template(self) -> ChatTemplate | None:
        return read_chat_template(self._bundle)

    def tokens_of_text(self, row: int, text: str) -> Int64:
        """Return the tokens of a text with the beginning-of-text token; see `tokens_with_bos`."""
        fault = fault_of_text(text)
        if fault:
            raise InputError(found=f"text {row} is {fault}", wanted="a non-empty string", remedy="leave that text out")
        return np.array(tokens_with_bos(self.tokenizer, text), np.int64)

    def tokens_of_chat(self, messages: Sequence[Message]) -> Int64:
        """Return the tokens of a chat in the model's own template, up to where the model's answer begins.

        Raises:
            InputError: The bundle has no chat template, or the messages are malformed.
            ChatTemplateError: The template rejects these messages.
            MissingExtraError: jinja2 is not installed.
        """
        if self._chat_template is None:
            raise InputError(
                found=f"the request is a chat, but {self._bundle.folder} has no chat template",
                wanted="a text",
                remedy="format the text as the model was trained on it, or use a model tuned for chats",
            )
        text = self._chat_template.render(messages)
        return np.array(self.tokenizer.encode(text, add_special_tokens=False).ids, np.int64)

    def tokens_of_label(self, label: str) -> list[int]:
        """Return the tokens of a label as the continuation of a text: without special tokens."""
        ids: list[int] = self.tokenizer.encode(label, add_special_tokens=False).ids
        return ids
