"""Requests to causal language models: texts, tokens, or the messages of a chat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_prompt.base.errors import InputError
from edge_prompt.formats.bundle import Bundle
from edge_prompt.formats.preprocessing import LanguagePreprocessing
from edge_prompt_runtime.inputs.chat.tokenizer import ChatTokenizer
from edge_prompt_runtime.inputs.requests import Request, Tasks, one_per_row, require_room
from edge_prompt_runtime.tasks.task import Task

Int64 = NDArray[np.int64]


class LanguageRequests:
    """Reads texts, tokens and chats for a causal language model; see `Requests`.

    Args:
        bundle: The bundle, whose tokenizer is read when the first text is.
        preprocessing: The sizes of the network.

    Attributes:
        tokenizer: The bundle's tokenizer and chat template.
    """

    def __init__(self, bundle: Bundle, preprocessing: LanguagePreprocessing) -> None:
        self._vocab_size = preprocessing.vocab_size
        self.tokenizer = ChatTokenizer(bundle)

    def read(self, inputs: Any, tasks: Tasks) -> Request:
        """Read a text, token ids or the messages of a chat, several of these, or token arrays by name.

        Texts are inserted into the template of their task; tokens and messages are not.
        """
        if isinstance(inputs, Mapping):
            tokens, single = self._checked(inputs), False
            tasks = one_per_row(tasks, len(tokens["input_ids"]))
        else:
            items, single = _items(inputs)
            tasks = one_per_row(tasks, len(items))
            tokens = self._padded([self._tokens(row, item, tasks[row]) for row, item in enumerate(items)])
        require_room(tokens, tasks)
        return Request(tokens, tasks, single)

    def _padded(self, rows: Sequence[Int64]) -> dict[str, Int64]:
        shape = (len(rows), max(map(len, rows)))
        input_ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for row, tokens in enumerate(rows):
            input_ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        return self._known(input_ids, mask)

    def _checked(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, Int64]:
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
        return self._known(input_ids.astype(np.int64, copy=False), mask.astype(np.int64, copy=False))

    def _known(self, input_ids: Int64, mask: Int64) -> dict[str, Int64]:
        """The arrays by name, after a check of their values."""
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
        return {"input_ids": input_ids, "attention_mask": mask}

    def _tokens(self, row: int, item: Any, task: Task) -> Int64:
        if isinstance(item, str):
            tokens = self.tokenizer.tokens_of_text(row, task.filled(item))
        elif _is_chat(item):
            tokens = self.tokenizer.tokens_of_chat(item)
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


def _items(inputs: Any) -> tuple[Sequence[Any], bool]:
    """The caller's inputs as a list, and whether the caller passed a single item."""
    if isinstance(inputs, str):
        return [inputs], True
    if isinstance(inputs, np.ndarray):
        return ([inputs], True) if inputs.ndim == 1 else (list(inputs), False)
    if isinstance(inputs, Sequence) and not isinstance(inputs, bytes | bytearray):
        single = bool(inputs) and isinstance(inputs[0], int | np.integer | Mapping)
        return ([inputs], True) if single else (inputs, False)
    raise InputError(
        found=f"the request is of type {type(inputs).__name__}, which a language model cannot read",
        wanted="a text, token ids, the messages of a chat, or several of these",
        remedy="pass one of these",
    )


def _is_chat(item: Any) -> bool:
    return isinstance(item, Sequence) and bool(item) and isinstance(item[0], Mapping)
