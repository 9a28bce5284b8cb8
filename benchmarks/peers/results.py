"""Samples of generation, and their medians."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Sample(NamedTuple):
    """One request.

    Attributes:
        tokens: The generated tokens.
        first_ms: Time to the first token.
        all_ms: Time to the end of the call.
    """

    tokens: tuple[int, ...]
    first_ms: float
    all_ms: float

    @property
    def tokens_per_second(self) -> float:
        """Speed of the tokens after the first."""
        return 1000 * (len(self.tokens) - 1) / (self.all_ms - self.first_ms)


def first_ms(samples: Sequence[Sample]) -> float:
    """Return the median time to the first token."""
    return statistics.median(sample.first_ms for sample in samples)


def tokens_per_second(samples: Sequence[Sample]) -> float:
    """Return the median decoding speed."""
    return statistics.median(sample.tokens_per_second for sample in samples)


def differing(said: Mapping[str, Sequence[Sequence[int]]]) -> list[str]:
    """Return one sentence per variant whose tokens differ from those of the first.

    Args:
        said: The tokens of each request in the same order, by variant.
    """
    reference, *others = said
    found = []
    for name in others:
        for request, (wanted, given) in enumerate(zip(said[reference], said[name], strict=True)):
            if list(wanted) != list(given):
                pairs = enumerate(zip(wanted, given, strict=False))
                place = next((at for at, (one, other) in pairs if one != other), min(len(wanted), len(given)))
                found.append(f"{name} and {reference} differ in request {request} from token {place} on")
                break
    return found
