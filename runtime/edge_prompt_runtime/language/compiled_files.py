"""Compiled prompts on disk: the keys and values of a soft prompt, stored next to it so that loading runs no graph.

They belong to one graph, its weights and one prompt, and are refused if any of these changed. The formats are
described in `docs/reference/formats.md`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edge_prompt.base.errors import CardError
from edge_prompt.formats.bundle import Bundle
from edge_prompt.formats.manifest import LanguageManifest
from edge_prompt.formats.signed_files import signature_path
from edge_prompt.storage.files import read_hashed_json
from edge_prompt.storage.transaction import read_as_named, read_unchanged, write_all
from edge_prompt.untrusted.json_fields import Fields
from edge_prompt.untrusted.npy import FloatArray, read_hashed_npz, write_npz_to
from edge_prompt_runtime.engines.base import Past

FORMAT_VERSION = 1
ARRAYS_SUFFIX, CARD_SUFFIX = ".kv.npz", ".kv.json"


def card_path(prompt: Path, engine: str) -> Path:
    """Return the path of the card of the compiled form of the prompt at `prompt`."""
    return prompt.with_name(f"{prompt.stem}.{engine}{CARD_SUFFIX}")


def arrays_path(prompt: Path, engine: str) -> Path:
    """Return the path of the arrays of the compiled form of the prompt at `prompt`."""
    return prompt.with_name(f"{prompt.stem}.{engine}{ARRAYS_SUFFIX}")


def write_compiled(prompt: Path, prompt_sha256: str, bundle: Bundle, engine: str, past: Past) -> Path:
    """Write the compiled form of the prompt at `prompt`, atomically: after a crash, the old or the new form is there.

    Args:
        prompt: The prompt's file.
        prompt_sha256: The digest of the prompt's file when it was read.
        bundle: The bundle that it was compiled with.
        engine: The engine that it was compiled on.
        past: Keys and values, alternating by layer.

    Returns:
        The path of the arrays.

    Raises:
        WriteError: A file cannot be written.
    """
    path = arrays_path(prompt, engine)
    arrays: dict[str, FloatArray] = {str(index): part for index, part in enumerate(past)}
    belongs = {"format_version": FORMAT_VERSION, **_belongs_to(prompt_sha256, bundle, engine)}
    write_all(
        {path: lambda stream: write_npz_to(stream, arrays)},
        card_path(prompt, engine),
        lambda digests: {**belongs, "sha256": digests[path]},
        lambda fields: {path: str(fields.get("sha256"))},
    )
    return path


def read_compiled(prompt: Path, prompt_sha256: str, bundle: Bundle, engine: str, length: int) -> Past | None:
    """Read the compiled form of the prompt at `prompt`; None if there is none for this engine.

    Args:
        prompt: The prompt's file.
        prompt_sha256: The digest of the prompt's file when it was read.
        bundle: The bundle.
        engine: The engine.
        length: Number of virtual tokens in the prompt.

    Raises:
        CardError: The prompt was compiled with another graph or other weights, another prompt was compiled, or the card
            is malformed.
        ArrayFileError: The arrays are malformed.
        TrustError: The bundle must be signed, but the compiled form is not.
    """
    card, path = card_path(prompt, engine), arrays_path(prompt, engine)
    if not card.exists() or not isinstance(bundle.manifest, LanguageManifest):
        return None
    belongs = _belongs_to(prompt_sha256, bundle, engine)
    wanted_shapes = [(1, heads, length, size) for heads, size in bundle.manifest.kv_cache for _ in range(2)]
    past, digests = read_unchanged(lambda: (card, path), lambda: _read(card, path, belongs, wanted_shapes))
    if bundle.signatures is not None:
        bundle.signatures.require(signature_path(card), digests)
    return past


def _read(
    card: Path, path: Path, belongs: Mapping[str, str], wanted_shapes: Sequence[tuple[int, ...]]
) -> tuple[Past, dict[str, str]]:
    """The keys and values, and the digests of the files they were read from, by name."""
    value, card_sha256 = read_hashed_json(card, CardError)
    fields = Fields(value, str(card), CardError)
    fields.require_version(FORMAT_VERSION)
    _require_digests(fields, belongs)  # before reading the arrays, whose names depend on the graph
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
                "keys and values that were compiled from it",
                "compile the prompt again with 'edge-prompt compile', or delete the file",
            )


_OF = {
    "prompt_sha256": "prompt",
    "graph_sha256": "graph",
    "fingerprint": "backbone's weights",
    "sha256": "arrays next to it",
}
"""The file or files that each digest in the card belongs to."""


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
                found=f"{path} has keys or values of shape {list(part.shape)}",
                wanted=f"{list(shape)}",
                remedy="compile the prompt again with 'edge-prompt compile'",
            )
