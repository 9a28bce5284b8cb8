"""The cache of a causal language model on ONNX Runtime: past and present are one buffer, where the graph appends.

The graph's `GroupQueryAttention` appends where both are bound to the same memory. Where they are not, it copies the
past into a present of exactly the new length: so a row begins, for then its prompt is read where it lies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_prompt.cache import SHARED_INPUTS, past_names, present_names
from edge_prompt_runtime.engines import Arrays, Float32, Int64, Past

LEAST_ROOM = 64
"""Tokens that a buffer has room for beyond those that it is made for; a long one has half as many again as it holds."""


class Place(NamedTuple):
    """Where a row's keys and values lie.

    Attributes:
        values: Keys, then values, a layer: `[rows, num_kv_heads, capacity, head_dim]` each, in ONNX Runtime's form.
        row: The row in them.
    """

    values: Sequence[Any]
    row: int


class _Bound(NamedTuple):
    """Rows together in one buffer, and all that a step reads and writes, bound once.

    Attributes:
        binding: What is bound to what.
        feeds: The memory of the inputs but for the past, by name.
        logits: That of the logits, `[batch, 1, vocab_size]`.
        alive: What is bound, which lives as long as this.
    """

    binding: Any
    feeds: dict[str, NDArray[Any]]
    logits: Float32
    alive: Any


class SharedBuffers:
    """See `edge_prompt_runtime.engines.CachedRun`.

    Args:
        session: The graph's session.
        held: The past of each row, by `hold`.
        no_soft_prompt: `[1, 0, hidden_size]`.
        vocab_size: How many logits there are.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        held: Sequence[Sequence[Any]],
        no_soft_prompt: Float32,
        vocab_size: int,
    ) -> None:
        self._session = session
        self._places = [Place(values, 0) for values in held]
        self._lengths = np.array([values[0].shape()[2] for values in held], np.int64)
        self._no_soft_prompt = no_soft_prompt
        self._vocab_size = vocab_size
        self._past_names = past_names(len(held[0]) // 2)
        self._present_names = present_names(len(held[0]) // 2)
        self._bound: _Bound | None = None

    def read(self, rows: Sequence[Int64], *, every: bool = False, soft_prompt: Float32 | None = None) -> list[Float32]:
        """See `CachedRun.read`.

        The operator reads several new tokens of one row at a time, or one new token of several rows: whichever takes
        fewer runs.
        """
        longest = max(map(len, rows))
        if soft_prompt is None and longest == 1:
            logits = self._step(np.concatenate(rows), self._lengths)
            self._lengths += 1
            return list(logits)
        if soft_prompt is None and longest < len(rows):
            return self._read_abreast(rows, longest, every=every)
        return [self._read_row(row, tokens, soft_prompt, every=every) for row, tokens in enumerate(rows)]

    def keep(self, rows: Sequence[int]) -> None:
        """See `CachedRun.keep`. Nothing is copied before rows read on together."""
        if list(rows) == list(range(len(self._places))):
            return
        self._places = [self._places[row] for row in rows]
        self._lengths = self._lengths[list(rows)]
        self._bound = None

    def cache(self) -> Past:
        """See `CachedRun.cache`."""
        (place,), (length,) = self._places, self._lengths
        return tuple(value.numpy()[place.row : place.row + 1, :, :length].copy() for value in place.values)

    def close(self) -> None:
        """See `CachedRun.close`."""
        self._places, self._bound = [], None

    def _read_row(self, row: int, tokens: Int64, soft_prompt: Float32 | None, *, every: bool) -> Float32:
        """Read any number of tokens of one row, into a present of its own."""
        embeddings = self._no_soft_prompt if soft_prompt is None else soft_prompt
        start = int(self._lengths[row])
        new = embeddings.shape[1] + len(tokens)
        first = embeddings.shape[1] if every else max(embeddings.shape[1], new - 1)
        feeds = {
            "input_ids": tokens[None],
            "position_ids": np.arange(start, start + new)[None],
            "logits_to_keep": np.arange(first, new),
            "soft_prompt": embeddings,
            SHARED_INPUTS[0]: np.array([start + new - 1], np.int32),
            SHARED_INPUTS[1]: np.array(start + new, np.int32),
        }
        inputs = {**values_of(feeds), **dict(zip(self._past_names, self._alone(row), strict=True))}
        logits, *present = self._session.run_with_ort_values(["logits", *self._present_names], inputs)
        self._places[row] = Place(present, 0)
        self._lengths[row] += new
        self._bound = None
        found: Float32 = logits.numpy()[0].copy()  # what it gives is its own memory
        return found

    def _alone(self, row: int) -> Sequence[Any]:
        """The past of one row, exactly as long as it is: where it lies, if that is so there, or else copied."""
        place, length = self._places[row], int(self._lengths[row])
        if place.values[0].shape()[::2] == [1, length]:
            return place.values
        cut = (value.numpy()[place.row : place.row + 1, :, :length] for value in place.values)
        return [onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(part)) for part in cut]

    def _read_abreast(self, rows: Sequence[Int64], longest: int, *, every: bool) -> list[Float32]:
        """Read one token of all rows at a time. A row that has no more reads its last one again, in its own place."""
        found: list[list[Float32]] = [[] for _ in rows]
        begins, lengths = self._lengths.copy(), np.array([len(row) for row in rows])
        for step in range(longest):
            read = np.minimum(step, lengths - 1)
            tokens = np.array([row[place] for row, place in zip(rows, read, strict=True)])
            logits = self._step(tokens, begins + read).copy()
            self._lengths = begins + read + 1
            for row, length in enumerate(lengths):
                if step < length and (every or step == length - 1):
                    found[row].append(logits[row])
        return [np.concatenate(parts) for parts in found]

    def _step(self, tokens: Int64, places: Int64) -> Float32:
        """The logits `[batch, 1, vocab_size]` after one token a row, which is written at its place `[batch]`.

        The next step writes where they lie.
        """
        total = int(places.max()) + 1
        if self._bound is None or self._places[0].values[0].shape()[2] < total:
            self._bound = self._join(total)
        feeds = self._bound.feeds
        feeds["input_ids"][:, 0] = tokens
        feeds["position_ids"][:, 0] = feeds[SHARED_INPUTS[0]][:] = places
        feeds[SHARED_INPUTS[1]][()] = total
        self._session.run_with_iobinding(self._bound.binding)
        return self._bound.logits

    def _join(self, total: int) -> _Bound:
        """Bring the rows together in one buffer, with room for more than `total` tokens each.

        Everything is bound once, for binding takes a while: what a step reads is written where it was bound.
        """
        capacity = total + max(LEAST_ROOM, total // 2)
        sources = [[value.numpy() for value in place.values] for place in self._places]
        batch, buffers = len(sources), []
        for number, (_, heads, _, head_dim) in enumerate(part.shape for part in sources[0]):
            buffer = np.empty((batch, heads, capacity, head_dim), np.float32)
            for row, (place, length) in enumerate(zip(self._places, self._lengths, strict=True)):
                buffer[row, :, :length] = sources[row][number][place.row, :, :length]
            buffers.append(onnxruntime.OrtValue.ortvalue_from_numpy(buffer))
        self._places = [Place(buffers, row) for row in range(batch)]
        feeds: dict[str, NDArray[Any]] = {
            "input_ids": np.empty((batch, 1), np.int64),
            "position_ids": np.empty((batch, 1), np.int64),
            "logits_to_keep": np.zeros(1, np.int64),
            "soft_prompt": self._no_soft_prompt,
            SHARED_INPUTS[0]: np.empty(batch, np.int32),
            SHARED_INPUTS[1]: np.empty((), np.int32),
        }
        logits = np.empty((batch, 1, self._vocab_size), np.float32)
        inputs = {**values_of(feeds), **dict(zip(self._past_names, buffers, strict=True))}
        outputs = {**values_of({"logits": logits}), **dict(zip(self._present_names, buffers, strict=True))}
        binding = self._session.io_binding()
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in outputs.items():
            binding.bind_ortvalue_output(name, value)
        return _Bound(binding, feeds, logits, (inputs, outputs))


def hold(past: Past) -> Sequence[Any]:
    """See `Engine.hold`."""
    return [onnxruntime.OrtValue.ortvalue_from_numpy(part) for part in past]


def values_of(arrays: Arrays) -> dict[str, Any]:
    """Arrays as ONNX Runtime holds them, on the same memory."""
    return {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items()}
