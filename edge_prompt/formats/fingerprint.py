"""The fingerprint of a backbone: one digest of its weights, whatever format they are exported to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from edge_prompt.base.errors import FingerprintError


class Weight(NamedTuple):
    """One tensor of a backbone: its name, dtype name, shape, and C-ordered little-endian bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    content: memoryview


def fingerprint_of(weights: Iterable[Weight]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of `weights`, in the order of their names."""
    digest = hashlib.sha256()
    for weight in sorted(weights, key=lambda weight: weight.name):
        digest.update(f"{weight.name}\0{weight.dtype}\0{list(weight.shape)}\0".encode())
        digest.update(weight.content)
    return digest.hexdigest()


def require_fingerprint(found: str, wanted: str, name: str) -> None:
    """Refuse the prompt `name`, whose card says `found`, on a backbone of fingerprint `wanted`.

    Raises:
        FingerprintError: The two differ.
    """
    if found != wanted:
        raise FingerprintError(
            found=f"{name} was tuned on a backbone of fingerprint {found[:12]}…",
            wanted=f"{wanted[:12]}…, this bundle's",
            remedy="use the bundle of that backbone, or tune the prompt on this one",
        )
