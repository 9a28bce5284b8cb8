"""A prompt: the learned numbers of one task, with their card and head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edge_prompt.base.errors import CardError, MissingFileError
from edge_prompt.formats.card import TEMPLATE_FIELD, Card, HeadFile, card_fields, card_path, read_hashed_card
from edge_prompt.formats.head import Dense, Head, read_hashed_head, require_head, write_head_to
from edge_prompt.formats.kinds import KIND_AXES, require_kind, require_shape
from edge_prompt.storage.files import resolve_inside
from edge_prompt.storage.transaction import Digests, Write, read_as_named, read_unchanged, write_all
from edge_prompt.untrusted.npy import FloatArray, read_hashed_npy, require_writable, write_npy_to

__all__ = ["HEAD_SUFFIX", "PROMPT_SUFFIX", "Dense", "Head", "Prompt", "read_prompt", "write_prompt"]

PROMPT_SUFFIX = ".npy"
HEAD_SUFFIX = ".head.npz"


@dataclass(frozen=True)
class Prompt:
    """A prompt that was read from disk.

    Attributes:
        array: A C-ordered float32 or float16 array with the axes of the kind (`edge_prompt.formats.kinds.KIND_AXES`).
        card: Its card; None for a bare `.npy` file.
        head: The head of the task, if it has one.
        path: The path of the prompt file.
        sha256: The SHA-256 of the bytes that were read from each of its files, by file name.
    """

    array: FloatArray
    card: Card | None
    head: Head | None
    path: Path
    sha256: Mapping[str, str] = field(default_factory=dict)


def read_prompt(path: Path) -> Prompt:
    """Read a prompt file, its card if there is one, and the head that the card names, and check that they match.

    Raises:
        MissingFileError: The prompt, or the head that its card names, does not exist.
        ArrayFileError: An array file is malformed.
        CardError: The card is malformed, or does not match the array or the head.
        UnsafePathError: The card names a head outside its folder.
        HeadError: The head's arrays do not fit each other or the labels.
    """
    return read_unchanged(lambda: (card_path(path), path, _head_path(path)), lambda: _read(path))


def _read(path: Path) -> Prompt:
    card_file = card_path(path)
    try:
        card, card_sha256 = read_hashed_card(card_file)
    except MissingFileError:
        if card_file.exists():  # but is not a regular file
            raise
        array, sha256 = read_hashed_npy(path)
        if not card_file.exists():  # a card written in the meantime may belong to the array
            return Prompt(array, None, None, path, {path.name: sha256})
        card, card_sha256 = read_hashed_card(card_file)
    array, sha256 = read_as_named(path, card.sha256, read_hashed_npy)
    if card.shape != array.shape:
        raise CardError(
            found=f"{card_file} says shape {list(card.shape)}, but {path.name} has {list(array.shape)}",
            wanted="a card that matches the array next to it",
            remedy="restore a matching pair of files",
        )
    _require_digest(path, sha256, card.sha256, card_file)
    digests = {card_file.name: card_sha256, path.name: sha256}
    if card.head is None:
        return Prompt(array, card, None, path, digests)
    head, digests[card.head.file] = _read_head(path, card, card.head)
    return Prompt(array, card, head, path, digests)


def write_prompt(
    path: Path,
    array: FloatArray,
    kind: str,
    fingerprint: str,
    *,
    head: Head | None = None,
    labels: tuple[str, ...] = (),
    template: str = TEMPLATE_FIELD,
    max_tokens: int | None = None,
    provenance: Mapping[str, Any] | None = None,
    problem_type: str | None = None,
) -> Card:
    """Write a prompt, its head if it has one, and its card, which contains the digests of both.

    If the write is interrupted, `read_prompt` finds either the complete old or the complete new prompt. The same holds
    for concurrent readers.

    Returns:
        The card that was written.

    Raises:
        PromptKindError: The kind does not exist.
        PromptShapeError: The array does not have the axes of its kind.
        ArrayFileError: The array does not consist of finite float32 or float16 numbers.
        HeadError: Head and labels do not fit each other.
        WriteError: A file cannot be written.
    """
    require_kind(kind, dict.fromkeys(KIND_AXES, ()), str(path))
    require_shape(array.shape, kind, (None,) * len(KIND_AXES[kind]), str(path))
    if head is not None:
        require_head(head, labels, path)
    require_writable(path, array)
    head_path = _head_path(path)
    card = Card(kind, array.shape, "", fingerprint, labels, template, None, max_tokens, provenance or {}, problem_type)

    def described(digests: Digests) -> Card:
        if head is None:
            return replace(card, sha256=digests[path])
        activation = None if head.dense is None else head.dense.activation
        return replace(card, sha256=digests[path], head=HeadFile(head_path.name, digests[head_path], activation))

    files: dict[Path, Write | None] = {  # the array comes last, because a prompt is listed by its array
        head_path: None if head is None else lambda stream: write_head_to(stream, head),
        path: lambda stream: write_npy_to(stream, array),
    }
    digests = write_all(
        files, card_path(path), lambda found: card_fields(described(found)), lambda fields: _named(path, fields)
    )
    return described(digests)


def _head_path(prompt_path: Path) -> Path:
    """Return the path of the head of the prompt at `prompt_path`."""
    return prompt_path.with_name(prompt_path.stem + HEAD_SUFFIX)


def _named(path: Path, card: Mapping[str, Any]) -> Digests:
    """Return the digests that an untrusted card names for the files that `write_prompt` writes."""
    head = card.get("head")
    head = head if isinstance(head, dict) and head.get("file") == _head_path(path).name else {}
    return {path: str(card.get("sha256")), _head_path(path): str(head.get("sha256"))}


def _read_head(prompt_path: Path, card: Card, head_file: HeadFile) -> tuple[Head, str]:
    head_path = resolve_inside(prompt_path.parent, head_file.file)
    head, found = read_as_named(
        head_path, head_file.sha256, lambda place: read_hashed_head(place, head_file.activation)
    )
    _require_digest(head_path, found, head_file.sha256, card_path(prompt_path))
    require_head(head, card.labels, head_path)
    return head, found


def _require_digest(path: Path, found: str, sha256: str, card: Path) -> None:
    if found != sha256:
        raise CardError(
            found=f"{path} has SHA-256 {found[:12]}…, but its card {card.name} says {sha256[:12]}…",
            wanted="the file that the card describes",
            remedy="restore files that match",
        )
