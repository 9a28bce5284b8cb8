"""One row of a batch: chooses its tokens, assembles its text and decides when it ends."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edge_prompt.base.errors import InputError
from edge_prompt_runtime.generation.detokenizer import Decoder, StreamDecoder
from edge_prompt_runtime.generation.results import FinishReason, Piece
from edge_prompt_runtime.generation.sampling import Sampler
from edge_prompt_runtime.generation.settings import GenerationSettings
from edge_prompt_runtime.generation.stopping import StopStrings


@dataclass(frozen=True, eq=False)
class RowRequest:
    """One row's request for generation.

    Attributes:
        tokens: The token ids of the request, `[length]` int64; at least one.
        settings: The generation settings.
        room: Number of positions that the network has left after these tokens; None if it has no such limit.
    """

    tokens: NDArray[np.int64]
    settings: GenerationSettings = field(default_factory=GenerationSettings)
    room: int | None = None


class Row:
    """A row that is being generated.

    Args:
        index: Its index in the batch of the caller.
        request: The request to continue.
        decoder: The bundle's tokenizer; None if there is none, in which case the row has tokens but no text.

    Raises:
        InputError: There are stop strings but no tokenizer, or the request is as long as `max_length`.
    """

    def __init__(self, index: int, request: RowRequest, decoder: Decoder | None) -> None:
        settings = request.settings
        if decoder is None and settings.stop:
            raise InputError(
                found="stop strings were passed, but the bundle has no tokenizer",
                wanted="stop_token_ids",
                remedy="pass the token ids to stop at, or use a bundle with a tokenizer.json",
            )
        limit = settings.limit(len(request.tokens))
        self._index = index
        self._left = limit if request.room is None else min(limit, request.room)
        self._stop_tokens = frozenset(settings.stop_token_ids)
        self._sampler = Sampler(settings, request.tokens)
        self._pieces = None if decoder is None else StreamDecoder(decoder)
        self._stops = StopStrings(settings.stop)

    def advance(self, logits: NDArray[np.float32]) -> Piece:
        """Choose the next token from `logits [vocab]`."""
        token, logprobs = self._sampler.choose(logits)
        self._left -= 1
        ended = token in self._stop_tokens
        text = "" if ended or self._pieces is None else self._stops.push(self._pieces.push(token))
        reason: FinishReason | None = None
        if ended or self._stops.found is not None:
            reason = "stop"
        elif self._left <= 0:
            reason = "length"
        if reason is not None:
            rest, reason = self._rest(reason)
            text += rest
        return Piece(self._index, text, token, logprobs, reason)

    def cancel(self) -> Piece:
        """End the row early."""
        text, _reason = self._rest("cancelled")
        return Piece(self._index, text, None, None, "cancelled")

    def _rest(self, reason: FinishReason) -> tuple[str, FinishReason]:
        """The text that was held back, and the reason, which it changes to `stop` if it completes a stop string."""
        text = "" if self._pieces is None else self._stops.push(self._pieces.flush())
        return text + self._stops.flush(), "stop" if self._stops.found is not None else reason
