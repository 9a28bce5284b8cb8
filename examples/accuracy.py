"""Accuracy on a random sample of a test split, with its confidence interval."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

Row = TypeVar("Row")

_Z_95 = 1.959964
"""How many standard deviations of a normal distribution hold 95% of it."""


class Accuracy(NamedTuple):
    """How many rows were answered correctly.

    Attributes:
        right: The rows answered correctly.
        total: All rows that were asked, at least one.
    """

    right: int
    total: int

    @property
    def share(self) -> float:
        """The accuracy, 0 to 1."""
        return self.right / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% confidence interval (Wilson 1927), which is sound for small samples and accuracies close to 1."""
        spread = _Z_95**2 / self.total
        middle = (self.share + spread / 2) / (1 + spread)
        half = math.sqrt(spread * self.share * (1 - self.share) + spread**2 / 4) / (1 + spread)
        return max(0.0, middle - half), min(1.0, middle + half)

    def __str__(self) -> str:
        """The accuracy and its interval in percent, as `96.5% (93-98)`."""
        low, high = self.interval
        return f"{self.share:.1%} ({100 * low:.0f}-{100 * high:.0f})"


def sample(rows: Sequence[Row], size: int | None, seed: int = 0) -> list[Row]:
    """Draw rows at random, the same ones for the same seed.

    Args:
        rows: The rows to draw from.
        size: How many rows to draw; None, or more than there are, takes all of them in their order.
        seed: Seed of the random generator.
    """
    if size is None or size >= len(rows):
        return list(rows)
    return random.Random(seed).sample(rows, size)
