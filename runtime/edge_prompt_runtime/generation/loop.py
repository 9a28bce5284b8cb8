"""The generation loop: a batch of rows, token by token, each row to its own end."""

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
    """Generate, giving a piece a row and step; the last piece of each row has its `finish_reason`.

    Everything is checked before the first piece is asked for. The iterator may be closed at any time: then, and at its
    end and where it fails, `decoding` is told to let go of its caches.

    Args:
        decoding: Rows are started, continued and dropped here.
        requests: A request a row.
        decoder: The bundle's tokenizer; None where there is none: then pieces have no text.
        cancel: Looked at before each token; once it is set, every row that is not at its end is cancelled.

    Raises:
        InputError: A request has no tokens or no room, or settings do not fit it.
        LogitsError: The network gave no numbers that a token can be chosen by; raised while iterating.
    """
    for index, request in enumerate(requests):
        _require_sound(index, request)
    rows = [Row(index, request, decoder) for index, request in enumerate(requests)]
    return _pieces(decoding, requests, rows, cancel)


def collect(pieces: Iterable[Piece], requests: Sequence[RowRequest]) -> list[Generation]:
    """The whole of each row, of the pieces of all."""
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
    """See `generate_pieces`: apart from it so that faults are raised at the call, not with the first piece."""
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
            decoding.keep([])


def _require_sound(index: int, request: RowRequest) -> None:
    if request.tokens.ndim != 1 or not len(request.tokens):
        raise InputError(
            found=f"row {index} with tokens of shape {list(request.tokens.shape)}",
            wanted="at least one token a row",
            remedy="leave that row out, or begin it with the token that begins texts",
        )
    if request.room is not None and request.room < 1:
        raise InputError(
            found=f"row {index} of {len(request.tokens)} tokens, which leave no room",
            wanted="places for at least one token more",
            remedy="shorten the request, or use a shorter prompt",
        )
