"""The generation loop: extends a batch of rows token by token until each row ends."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence

import numpy as np

from edge_prompt.base.errors import InputError
from edge_prompt_runtime.generation.detokenizer import Decoder
from edge_prompt_runtime.generation.interfaces import Cancellation, Decoding
from edge_prompt_runtime.generation.results import FinishReason, Generation, Piece, TokenLogprobs
from edge_prompt_runtime.generation.row import Row, RowRequest


def generate_pieces(
    decoding: Decoding,
    requests: Sequence[RowRequest],
    decoder: Decoder | None,
    cancel: Cancellation | None = None,
) -> Generator[Piece]:
    """Generate one piece per row and step; the last piece of each row has its `finish_reason`.

    All requests are checked at the call, before the first piece. The iterator may be closed at any time. When it is
    closed, ends or fails, the caches of `decoding` are freed.

    Args:
        decoding: The rows on an engine.
        requests: One request per row.
        decoder: The bundle's tokenizer; None if there is none, in which case pieces have no text.
        cancel: Checked before each token; once it is set, every row that has not ended is cancelled.

    Raises:
        InputError: A request has no tokens or leaves no room for new ones, or the settings do not fit it.
        LogitsError: The network returned logits that no token can be chosen from; raised during iteration.
    """
    for index, request in enumerate(requests):
        _require_sound(index, request)
    rows = [Row(index, request, decoder) for index, request in enumerate(requests)]
    return _pieces(decoding, requests, rows, cancel)


def collect(pieces: Iterable[Piece], requests: Sequence[RowRequest]) -> list[Generation]:
    """Join the pieces of all rows into one generation per row."""
    texts: list[list[str]] = [[] for _ in requests]
    tokens: list[list[int]] = [[] for _ in requests]
    logprobs: list[list[TokenLogprobs]] = [[] for _ in requests]
    reasons: list[FinishReason] = ["cancelled" for _ in requests]
    for piece in pieces:
        texts[piece.row].append(piece.text)
        if piece.token is not None:
            tokens[piece.row].append(piece.token)
        if piece.logprobs is not None:
            logprobs[piece.row].append(piece.logprobs)
        reasons[piece.row] = piece.finish_reason or reasons[piece.row]
    return [
        Generation(
            "".join(texts[row]),
            tuple(tokens[row]),
            reasons[row],
            len(request.tokens),
            None if request.settings.top_logprobs is None else tuple(logprobs[row]),
        )
        for row, request in enumerate(requests)
    ]


def _pieces(
    decoding: Decoding, requests: Sequence[RowRequest], rows: list[Row], cancel: Cancellation | None
) -> Generator[Piece]:
    """The generator behind `generate_pieces`, which checks the requests at the call, not with the first piece."""
    started = False
    try:
        tokens: list[int] = []
        while rows:
            if cancel is not None and cancel.is_set():
                yield from [row.cancel() for row in rows]
                return
            if started:
                logits = decoding.step(np.array(tokens, np.int64))
            else:
                started = True
                logits = decoding.start([request.tokens for request in requests])
            pieces = [row.advance(logits[place]) for place, row in enumerate(rows)]
            yield from pieces
            going = [place for place, piece in enumerate(pieces) if piece.finish_reason is None]
            tokens = [token for place in going if (token := pieces[place].token) is not None]
            if going and len(going) < len(rows):
                decoding.keep(going)
            rows = [rows[place] for place in going]
    finally:
        if started:
            decoding.close()


def _require_sound(index: int, request: RowRequest) -> None:
    if request.tokens.ndim != 1 or not len(request.tokens):
        raise InputError(
            found=f"row {index} has tokens of shape {list(request.tokens.shape)}",
            wanted="at least one token per row",
            remedy="leave that row out, or start it with the beginning-of-text token",
        )
    if request.room is not None and request.room < 1:
        raise InputError(
            found=f"row {index} has {len(request.tokens)} tokens, which leave no room for new ones",
            wanted="room for at least one more token",
            remedy="shorten the request, or use a shorter prompt",
        )
