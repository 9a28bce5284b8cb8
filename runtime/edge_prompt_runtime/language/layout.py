"""Where the rows of a batch lie when their prompts and texts differ in length.

Everything is filled up on the left, so that all rows end at the same place. What is filled up is masked, and positions
count only what is there, so a row has the numbers that it has alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Int64 = NDArray[np.int64]

Past = Sequence[Float32]
"""Keys, then values, a layer: `[1, num_kv_heads, length, head_dim]` each, or with a batch in front."""


def past_together(pasts: Sequence[Past]) -> Past:
    """The pasts of all rows as one batch, filled up with zeros to the longest, which `filled_mask` tells of."""
    longest = max(past[0].shape[2] for past in pasts)
    together = []
    for parts in zip(*pasts, strict=True):
        _, heads, _, head_dim = parts[0].shape
        whole = np.zeros((len(parts), heads, longest, head_dim), np.float32)
        for row, part in enumerate(parts):
            whole[row, :, longest - part.shape[2] :] = part[0]
        together.append(whole)
    return together


def tokens_together(rows: Sequence[Int64]) -> tuple[Int64, Int64]:
    """The tokens of all rows as one batch `[batch, longest]`, and what of it is real."""
    mask = filled_mask([len(row) for row in rows])
    tokens = np.zeros(mask.shape, np.int64)
    for row, ids in enumerate(rows):
        tokens[row, mask.shape[1] - len(ids) :] = ids
    return tokens, mask


def filled_mask(lengths: Sequence[int]) -> Int64:
    """`[batch, longest]`: ones where a row has something, which is at its end."""
    longest = max(lengths)
    return (np.arange(longest) >= longest - np.asarray(lengths)[:, None]).astype(np.int64)


def positions_of(mask: Int64, new: int) -> Int64:
    """The positions `[batch, new]` of the last `new` places under `mask [batch, length]`."""
    positions: Int64 = np.maximum(mask.cumsum(1) - 1, 0)[:, mask.shape[1] - new :]
    return positions
