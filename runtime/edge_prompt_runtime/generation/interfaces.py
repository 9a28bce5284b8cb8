"""The interfaces that the generation loop needs: rows on an engine, and cancellation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]


class Decoding(Protocol):
    """A batch of rows in progress on an engine, with their KV caches. Used by one thread."""

    def start(self, rows: Sequence[Int64]) -> Sequence[Float32] | Float32:
        """Start the rows.

        Args:
            rows: The token ids of each row, `[length]`; lengths may differ.

        Returns:
            The logits after the last token of each row, `[vocab]` per row.
        """

    def step(self, tokens: Int64) -> Sequence[Float32] | Float32:
        """Append `tokens [batch]`, one per row, and return the logits after them, `[vocab]` per row."""

    def keep(self, rows: Sequence[int]) -> None:
        """Continue with these rows only, given as indices into the current batch."""

    def close(self) -> None:
        """Free all caches."""


class Cancellation(Protocol):
    """Lets a caller stop generation from any thread: a `threading.Event`."""

    def is_set(self) -> bool:
        """Whether to stop."""
