"""The rows of a causal language model on ONNX Runtime, which append their keys and values to one buffer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_prompt.formats.kv_cache_names import SHARED_INPUTS
from edge_prompt_runtime.engines.base import Float32, HeldPast, Int64, Past
from edge_prompt_runtime.engines.onnxruntime.buffers import LEAST_ROOM, Buffer, Buffers

ONLY_PLACE = np.zeros(1, np.int64)
"""The index of the only token of a step."""


class BufferedRows:
    """See `edge_prompt_runtime.engines.base.CachedRun`.

    Args:
        buffers: The buffers of the graph's session.
        held: The past of each row.
        no_soft_prompt: A soft prompt of length 0, `[1, 0, hidden_size]`.
        vocab_size: Size of the vocabulary.
    """

    def __init__(self, buffers: Buffers, held: Sequence[HeldPast], no_soft_prompt: Float32, vocab_size: int) -> None:
        self._buffers = buffers
        self._pasts = list(held)
        self._lengths = [past[0].shape[2] for past in held]  # a list, because numpy's first sum after a run takes 30 µs
        self._no_soft_prompt = no_soft_prompt
        self._vocab_size = vocab_size
        self._step_logits: Float32 = np.empty((0, 1, vocab_size), np.float32)
        self._buffer: Buffer | None = buffers.take(held, max(self._lengths))
        for row, (past, length) in enumerate(zip(held, self._lengths, strict=True)):
            self._buffer.write(row, past, past, 0, length)

    def forward(
        self, rows: Sequence[Int64], *, every: bool = False, soft_prompt: Float32 | None = None
    ) -> list[Float32]:
        """See `CachedRun.forward`.

        The operator reads either several new tokens of one row or one new token of several rows per run; this chooses
        whichever takes fewer runs.
        """
        longest = max(map(len, rows))
        if soft_prompt is None and longest == 1:
            logits = self._step(np.concatenate(rows), self._lengths)
            self._lengths = [length + 1 for length in self._lengths]
            return list(logits)
        if soft_prompt is None and longest < len(rows):
            return self._read_abreast(rows, longest, every=every)
        embeddings = self._no_soft_prompt if soft_prompt is None else soft_prompt
        ends = [length + embeddings.shape[1] + len(tokens) for length, tokens in zip(self._lengths, rows, strict=True)]
        buffer = self._with_room_for(max(ends), LEAST_ROOM)
        return [self._read_row(buffer, row, tokens, embeddings, every=every) for row, tokens in enumerate(rows)]

    def keep(self, rows: Sequence[int]) -> None:
        """See `CachedRun.keep`."""
        if list(rows) != list(range(len(self._pasts))):
            self._move(rows, max(self._lengths[row] for row in rows), LEAST_ROOM)

    def cache(self) -> Past:
        """See `CachedRun.cache`."""
        (length,) = self._lengths
        return tuple(array[:, :, :length].copy() for array in self._open().arrays)

    def close(self) -> None:
        """See `CachedRun.close`. The buffer is returned only once, because other threads may use it afterwards."""
        buffer, self._buffer = self._buffer, None
        if buffer is not None:
            self._buffers.give(buffer)

    def _open(self) -> Buffer:
        if self._buffer is None:
            raise RuntimeError("this run is closed")
        return self._buffer

    def _read_row(self, buffer: Buffer, row: int, tokens: Int64, embeddings: Float32, *, every: bool) -> Float32:
        """Read any number of tokens of one row."""
        start, new = self._lengths[row], embeddings.shape[1] + len(tokens)
        first = embeddings.shape[1] if every else max(embeddings.shape[1], new - 1)
        feeds = {
            "input_ids": tokens[None],
            "position_ids": np.arange(start, start + new)[None],
            "logits_to_keep": np.arange(first, new),
            "soft_prompt": embeddings,
            SHARED_INPUTS[0]: np.array([start + new - 1], np.int32),
            SHARED_INPUTS[1]: np.array(start + new, np.int32),
        }
        logits = np.empty((1, new - first, self._vocab_size), np.float32)
        buffer.bound(row).run(feeds, logits)
        self._lengths[row] += new
        found: Float32 = logits[0]
        return found

    def _read_abreast(self, rows: Sequence[Int64], longest: int, *, every: bool) -> list[Float32]:
        """Read one token of all rows at a time. A row without further tokens reads its last one again in place."""
        found: list[list[Float32]] = [[] for _ in rows]
        begins = self._lengths
        for step in range(longest):
            read = [min(step, len(row) - 1) for row in rows]
            places = [begin + place for begin, place in zip(begins, read, strict=True)]
            tokens = np.array([row[place] for row, place in zip(rows, read, strict=True)])
            logits = self._step(tokens, places).copy()
            self._lengths = [place + 1 for place in places]
            for row, own in enumerate(rows):
                if step < len(own) and (every or step == len(own) - 1):
                    found[row].append(logits[row])
        return [np.concatenate(parts) for parts in found]

    def _step(self, tokens: Int64, places: Sequence[int]) -> Float32:
        """Read one token per row at its position in `places`, and return the logits `[batch, 1, vocab_size]`.

        The next step overwrites them.
        """
        total = max(places) + 1
        buffer = self._with_room_for(total, max(LEAST_ROOM, total // 2))
        feeds: dict[str, NDArray[Any]] = {
            "input_ids": tokens[:, None],
            "position_ids": np.array(places, np.int64)[:, None],
            "logits_to_keep": ONLY_PLACE,
            "soft_prompt": self._no_soft_prompt,
            SHARED_INPUTS[0]: np.array(places, np.int32),
            SHARED_INPUTS[1]: np.array(total, np.int32),
        }
        if len(self._step_logits) != len(tokens):
            self._step_logits = np.empty((len(tokens), 1, self._vocab_size), np.float32)
        buffer.bound().run(feeds, self._step_logits)
        return self._step_logits

    def _with_room_for(self, total: int, room: int) -> Buffer:
        """The buffer of the rows; if it has no room for `total` tokens, a new one with `room` for more is taken."""
        if self._open().capacity < total:
            self._move(range(len(self._pasts)), total, room)
        return self._open()

    def _move(self, rows: Sequence[int], total: int, room: int) -> None:
        """Continue with these rows, which may repeat, in another buffer."""
        before = self._open()
        pasts, lengths = [self._pasts[row] for row in rows], [self._lengths[row] for row in rows]
        buffer = self._buffers.take(pasts, total, room)
        for row, (source, past, length) in enumerate(zip(rows, pasts, lengths, strict=True)):
            buffer.write(row, past, before.arrays, source, length)
        self._pasts, self._lengths, self._buffer = pasts, lengths, buffer
        self._buffers.give(before)
