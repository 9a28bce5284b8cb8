"""The memory of the KV cache on ONNX Runtime: past and present are bound to the same buffer.

The graph's `GroupQueryAttention` appends in place if both are the same memory. Otherwise it fills the present with
zeros and copies the past into it once per query head, which is several times the size of the past.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any
from weakref import ReferenceType, ref

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_prompt.formats.kv_cache_names import past_names, present_names
from edge_prompt_runtime.engines.base import Float32, HeldPast

LEAST_ROOM = 64
"""Number of tokens that a buffer has room for in addition to those it was created for."""

MOST_SPARE_BYTES = 64 << 20
"""Maximum total size of unused buffers."""


class Bound:
    """Keys and values bound to a session as past and present, together with the other inputs of the last run.

    Binding takes time, so an input of unchanged size is written to the memory that is already bound.

    Args:
        session: The session of the graph.
        arrays: Keys and values, alternating by layer.
    """

    def __init__(self, session: Any, arrays: Sequence[Float32]) -> None:
        self._session = session
        self._binding = session.io_binding()
        self._alive: dict[str, Any] = {}  # by name; a binding does not keep its values alive
        self._feeds: dict[str, NDArray[Any]] = {}
        self._logits: Float32 | None = None
        layers = len(arrays) // 2
        for past, present, array in zip(past_names(layers), present_names(layers), arrays, strict=True):
            value = self._alive[past] = onnxruntime.OrtValue.ortvalue_from_numpy(array)
            self._binding.bind_ortvalue_input(past, value)
            self._binding.bind_ortvalue_output(present, value)

    def run(self, feeds: Mapping[str, NDArray[Any]], logits: Float32) -> None:
        """Run the graph on `feeds`, all inputs except the past, and write the result to `logits`."""
        for name, array in feeds.items():
            there = self._feeds.get(name)
            if there is None or there.shape != array.shape:
                there = self._feeds[name] = array.copy()
                self._binding.bind_ortvalue_input(name, self._value(name, there))
            else:
                there[...] = array
        if logits is not self._logits:
            self._binding.bind_ortvalue_output("logits", self._value("logits", logits))
            self._logits = logits
        self._session.run_with_iobinding(self._binding)
        if logits.shape[1] > 1:  # grows with the text, so do not keep it
            self._logits = None
            del self._alive["logits"]

    def _value(self, name: str, array: NDArray[Any]) -> Any:
        value = self._alive[name] = onnxruntime.OrtValue.ortvalue_from_numpy(array)
        return value


class Buffer:
    """Keys and values of some rows, with room for more tokens.

    Rows only append, so the past that a row began with stays in the buffer and later rows can reuse it.

    Args:
        session: The session of the graph.
        arrays: Keys and values, alternating by layer: `[batch, num_kv_heads, capacity, head_dim]` each.
    """

    def __init__(self, session: Any, arrays: Sequence[Float32]) -> None:
        self.arrays = arrays
        self.batch, _, self.capacity, _ = arrays[0].shape
        self.size_bytes = sum(array.nbytes for array in arrays)
        self._session = session
        self._pasts: list[ReferenceType[HeldPast] | None] = [None] * self.batch
        self._bound: dict[int | None, Bound] = {}

    def has(self, row: int, past: HeldPast) -> bool:
        """Whether the row begins with this past, compared by identity."""
        there = self._pasts[row]
        return there is not None and there() is past

    def write(self, row: int, past: HeldPast, arrays: Sequence[Float32], source: int, length: int) -> None:
        """Copy `length` tokens from the row `source` of `arrays`, which begin with `past`, into `row`."""
        first = past[0].shape[2] if self.has(row, past) else 0
        if first < length:
            for own, other in zip(self.arrays, arrays, strict=True):
                own[row, :, first:length] = other[source, :, first:length]
        self._pasts[row] = ref(past)

    def bound(self, row: int | None = None) -> Bound:
        """Return the binding of one row, or of all rows."""
        row = None if self.batch == 1 else row
        if row not in self._bound:
            of_row = slice(row, None if row is None else row + 1)
            self._bound[row] = Bound(self._session, [array[of_row] for array in self.arrays])
        return self._bound[row]


class Buffers:
    """The pool of buffers of a session; released buffers are reused. Thread-safe.

    Args:
        session: The session of the graph.
    """

    def __init__(self, session: Any) -> None:
        self._session = session
        self._spare: deque[Buffer] = deque()  # most recently released last
        self._lock = Lock()

    def take(self, pasts: Sequence[HeldPast], total: int, room: int = LEAST_ROOM) -> Buffer:
        """Return a buffer for rows that begin with `pasts` and have room for `total` tokens.

        Attention needs memory for the whole capacity of a buffer, so much larger spare buffers are not reused.

        Args:
            pasts: The past of each row.
            total: Minimum number of tokens that the longest row has room for.
            room: Number of additional tokens that a new buffer has room for.
        """
        with self._lock:
            fitting = [
                buffer
                for buffer in self._spare
                if buffer.batch == len(pasts) and total <= buffer.capacity <= 2 * (total + room)
            ]
            if fitting:
                best = max(
                    fitting, key=lambda buffer: (sum(map(buffer.has, range(len(pasts)), pasts)), buffer.capacity)
                )
                self._spare.remove(best)
                return best
        shapes = [(len(pasts), part.shape[1], total + room, part.shape[3]) for part in pasts[0]]
        return Buffer(self._session, [np.empty(shape, np.float32) for shape in shapes])

    def give(self, buffer: Buffer) -> None:
        """Return a buffer to the pool, from which others may take it."""
        with self._lock:
            self._spare.append(buffer)
            while sum(spare.size_bytes for spare in self._spare) > MOST_SPARE_BYTES:
                self._spare.popleft()
