"""The fingerprint of a backbone: one digest of its weights, independent of the export format."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from edge_prompt.base.errors import FingerprintError


class Weight(NamedTuple):
    """One tensor of a backbone: its name, dtype, shape, and C-ordered little-endian bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    content: memoryview


def fingerprint_of(weights: Iterable[Weight]) -> str:
    """Return the SHA-256 of the names, dtypes, shapes and bytes of `weights`, sorted by name."""
    digest = hashlib.sha256()
    for weight in sorted(weights, key=lambda weight: weight.name):
        digest.update(f"{weight.name}\0{weight.dtype}\0{list(weight.shape)}\0".encode())
        digest.update(weight.content)
    return digest.hexdigest()


def require_fingerprint(found: str, wanted: str, name: str) -> None:
    """Check that the fingerprint `found` in the card of the prompt `name` is the fingerprint `wanted` of the backbone.

    Raises:
        FingerprintError: The two differ.
    """
    if found != wanted:
        raise FingerprintError(
            found=f"{name} was tuned on a backbone with the fingerprint {found[:12]}…",
            wanted=f"{wanted[:12]}…, the fingerprint of this bundle",
            remedy="use the bundle of that backbone, or tune a prompt on this one",
        )
