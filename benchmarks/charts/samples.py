"""The samples behind a figure, as dots."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MOST_DOTS = 60
SEED = 0


def dots(samples: Sequence[float], most: int = MOST_DOTS) -> NDArray[np.float64]:
    """Return all samples, sorted, or `most` of them spread evenly by rank, including the least and the greatest."""
    ordered = np.sort(np.asarray(samples, np.float64))
    return ordered if len(ordered) <= most else ordered[np.linspace(0, len(ordered) - 1, most).round().astype(int)]


def scattered(count: int) -> NDArray[np.float64]:
    """Offsets of dots across their axis, from -1 to 1, so that they do not hide each other; always the same."""
    return np.random.default_rng(SEED).uniform(-1, 1, count)
