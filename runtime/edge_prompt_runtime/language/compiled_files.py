"""Compiled prompts on disk: a soft prompt's keys and values beside it, so that loading it runs nothing.

They belong to one graph, its weights and one prompt; if any of these changed, they are refused. Formats:
`docs/reference/formats.md`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edge_prompt.base.errors import CardError
from edge_prompt.formats.bundle import Bundle
from edge_prompt.formats.signed_files import signature_path
from edge_prompt.storage.files import read_hashed_json
from edge_prompt.storage.transaction import read_as_named, read_unchanged, write_together
from edge_prompt.untrusted.json_fields import Fields
from edge_prompt.untrusted.npy import FloatArray, read_hashed_npz, write_npz_to
from edge_prompt_runtime.engines.base import Past

FORMAT_VERSION = 1
ARRAYS_SUFFIX, CARD_SUFFIX = ".kv.npz", ".kv.json"


def card_path(prompt: Path, engine: str) -> Path:
    """Where the card of the compiled form of the prompt at `prompt` lies; its arrays lie beside it."""
    return prompt.with_name(f"{prompt.stem}.{engine}{CARD_SUFFIX}")


def arrays_path(prompt: Path, engine: str) -> Path:
    """Where its arrays lie."""
    return prompt.with_name(f"{prompt.stem}.{engine}{ARRAYS_SUFFIX}")


def write_compiled(prompt: Path, prompt_sha256: str, bundle: Bundle, engine: str, past: Past) -> Path:
    """Write the compiled form of the prompt at `prompt`; interrupted at any instant, the old or the new one is there.

    Args:
        prompt: The prompt's file.
        prompt_sha256: The digest of the prompt's file, as it was when it was read.
        bundle: The bundle it was compiled with.
        engine: The engine it was compiled on.
        past: Keys, then values, a layer.

    Returns:
        The file with the arrays.

    Raises:
        WriteError: A file cannot be written.
    """
    path = arrays_path(prompt, engine)
    arrays: dict[str, FloatArray] = {str(index): part for index, part in enumerate(past)}
    belongs = {"format_version": FORMAT_VERSION, **_belongs_to(prompt_sha256, bundle, engine)}
    write_together(
        {path: lambda stream: write_npz_to(stream, arrays)},
        card_path(prompt, engine),
        lambda digests: {**belongs, "sha256": digests[path]},
        lambda fields: {path: str(fields.get("sha256"))},
    )
    return path


def read_compiled(prompt: Path, prompt_sha256: str, bundle: Bundle, engine: str, length: int) -> Past | None:
    """The compiled form of the prompt at `prompt`; None if there is none for this engine.

    Args:
        prompt: The prompt's file.
        prompt_sha256: The digest of the prompt's file, as it was when it was read.
        bundle: The bundle.
        engine: The engine.
        length: Virtual tokens of the prompt.

    Raises:
        CardError: It was compiled with another graph, other weights or another prompt, or is malformed.
        ArrayFileError: Its arrays are malformed.
        TrustError: It is not signed, and the bundle must be.
    """
    card, path = card_path(prompt, engine), arrays_path(prompt, engine)
    if not card.exists():
        return None
    belongs = _belongs_to(prompt_sha256, bundle, engine)
    wanted_shapes = [(1, heads, length, size) for heads, size in bundle.manifest.cache for _ in range(2)]
    past, digests = read_unchanged(lambda: (card, path), lambda: _read(card, path, belongs, wanted_shapes))
    if bundle.signatures is not None:
        bundle.signatures.require(signature_path(card), digests)
    return past


def _read(
    card: Path, path: Path, belongs: Mapping[str, str], wanted_shapes: Sequence[tuple[int, ...]]
) -> tuple[Past, dict[str, str]]:
    """The keys and values, and the digests by name of the files they were read from."""
    value, card_sha256 = read_hashed_json(card, CardError)
    fields = Fields(value, str(card), CardError)
    fields.require_version(FORMAT_VERSION)
    _require_digests(fields, belongs)  # before the arrays are read: those of another graph have other names
    names = frozenset(map(str, range(len(wanted_shapes))))
    arrays, sha256 = read_as_named(path, fields.sha256("sha256"), lambda place: read_hashed_npz(place, names))
    _require_digests(fields, {"sha256": sha256})
    past = [arrays[str(index)].astype(np.float32, copy=False) for index in range(len(wanted_shapes))]
    _require_shapes(path, past, wanted_shapes)
    return past, {card.name: card_sha256, path.name: sha256}


def _require_digests(fields: Fields, digests: Mapping[str, str]) -> None:
    for name, wanted in digests.items():
        if fields.sha256(name) != wanted:
            fields.refuse(
                f"{name} {fields.sha256(name)[:12]}… is not that of the {_OF[name]}, {wanted[:12]}…",
                "keys and values that were compiled from these",
                "compile the prompt again with 'edge-prompt compile', or delete the file",
            )


_OF = {
    "prompt_sha256": "prompt",
    "graph_sha256": "graph",
    "fingerprint": "backbone's weights",
    "sha256": "arrays beside it",
}
"""What each digest in the card is of."""


def _belongs_to(prompt_sha256: str, bundle: Bundle, engine: str) -> dict[str, str]:
    graph = "\n".join(f"{sha256}  {name}" for name, sha256 in sorted(bundle.graph(engine).sha256.items()))
    return {
        "prompt_sha256": prompt_sha256,
        "graph_sha256": hashlib.sha256(graph.encode()).hexdigest(),
        "fingerprint": bundle.manifest.backbone.fingerprint,
    }


def _require_shapes(path: Path, past: Past, wanted: Sequence[tuple[int, ...]]) -> None:
    for part, shape in zip(past, wanted, strict=True):
        if part.shape != shape:
            raise CardError(
                found=f"{path}: keys or values of shape {list(part.shape)}",
                wanted=f"{list(shape)}",
                remedy="compile the prompt again with 'edge-prompt compile'",
            )
