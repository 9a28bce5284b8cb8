"""What the generation loop asks of an engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]


class Decoding(Protocol):
    """A batch of rows under way on an engine: their caches. One thread uses it."""

    def start(self, rows: Sequence[Int64]) -> Sequence[Float32] | Float32:
        """Take up rows.

        Args:
            rows: The token ids of each row, `[length]`; lengths may differ.

        Returns:
            The logits after the last token of each row, `[vocab]` each.
        """

    def step(self, tokens: Int64) -> Sequence[Float32] | Float32:
        """Append `tokens [batch]`, one a row; returns the logits after each, `[vocab]` a row."""

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only, indices into the batch as it is; none at all lets go of every cache."""


class Cancellation(Protocol):
    """What a caller ends generation by, from any thread: a `threading.Event`."""

    def is_set(self) -> bool:
        """Whether to end."""
