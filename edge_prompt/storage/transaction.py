"""Replacing several files and the card that names their digests as one transaction.

A reader finds either all old or all new files. No system can rename several files atomically, so the card decides. The
writer first places the new files next to the old ones as `.NAME.new`. It then renames the new card over the old one,
which commits the transaction, and finally renames each new file to its own name. If a file does not have the digest
that the card names, the reader looks for it under `.NAME.new`. A writer that is killed after the commit leaves files
that every reader finds and that the next writer renames. A writer that is killed before the commit leaves files that
no card names and that the next writer removes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from edge_prompt.base.errors import CardError, EdgePromptError, MissingFileError
from edge_prompt.storage.files import (
    json_bytes,
    read_json,
    sha256_of,
    stat_of,
    sync_folder,
    synced_stream,
    write_errors,
)
from edge_prompt.storage.temporaries import Temporary, sole_writer, temporary_file

Write = Callable[[BinaryIO], object]
"""A function that writes the contents of one file to a stream."""

Value = TypeVar("Value")

Digests = Mapping[Path, str]
"""The SHA-256 of files, in hexadecimal."""

ATTEMPTS = 100
"""The number of attempts to read files that are being replaced; reading a card and its files takes several steps."""


def pending_path(path: Path) -> Path:
    """Return the path of a new file that the card may already name but that has not been renamed to `path` yet."""
    return path.with_name(f".{path.name}.new")


def write_all(
    files: Mapping[Path, Write | None],
    card: Path,
    describe: Callable[[Digests], dict[str, Any]],
    named: Callable[[dict[str, Any]], Digests],
) -> Digests:
    """Write `files` and the card that names them. If this is interrupted, readers find all old or all new files.

    Args:
        files: A function that writes each file in the folder of the card; None removes a file of an earlier version.
        card: The path of the card.
        describe: Returns the contents of the card for the digests of the files.
        named: Returns the digests that the contents of an existing, untrusted card name.

    Returns:
        The digests of the files.

    Raises:
        WriteError: A file cannot be written.
    """
    folder = card.parent
    with ExitStack() as stack:
        new = {path: stack.enter_context(_written(path, write)) for path, write in files.items() if write is not None}
        digests = {path: sha256_of(temporary.path) for path, temporary in new.items()}
        content = json_bytes(describe(digests))
        new_card = stack.enter_context(_written(card, lambda stream: stream.write(content)))
        with write_errors(card), sole_writer(folder):
            _settle(files, card, named)
            try:
                for path, temporary in new.items():
                    temporary.move_to(pending_path(path))
                sync_folder(folder)
                new_card.move_to(card)
                sync_folder(folder)
            finally:
                _settle(files, card, named)  # roll forward if the card was replaced, otherwise roll back
            sync_folder(folder)
    return digests


def read_as_named(path: Path, sha256: str, read: Callable[[Path], tuple[Value, str]]) -> tuple[Value, str]:
    """Read the file with the digest that a card names, at `path` or pending; otherwise read the file at `path`.

    Args:
        path: The path of the file.
        sha256: The digest that the card names.
        read: Reads a file, and returns its contents and their digest.

    Raises:
        EdgePromptError: `read` raised it for the file at `path`.
    """
    try:
        found, digest = read(path)
    except EdgePromptError:
        if not _is_pending(path, sha256):
            raise
        return read(pending_path(path))
    if digest != sha256 and _is_pending(path, sha256):
        return read(pending_path(path))
    return found, digest


def read_unchanged(paths: Callable[[], Sequence[Path]], read: Callable[[], Value]) -> Value:
    """Return the result of `read`, and call it again if it fails on files that were replaced in the meantime.

    Args:
        paths: Returns the paths of the card and of the files that it names.
        read: Reads the files.

    Raises:
        EdgePromptError: `read` raised it, and the files have not changed.
    """
    seen = None
    for _ in range(ATTEMPTS):
        try:
            return read()
        except EdgePromptError:
            found = [stat_of(place) for path in paths() for place in (path, pending_path(path))]
            if found == seen:
                raise
            seen = found
    return read()


@contextmanager
def _written(path: Path, write: Write) -> Iterator[Temporary]:
    """Write a temporary file for `path`, and sync it to disk."""
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_file(path) as temporary:
            with synced_stream(temporary) as stream:
                write(stream)
            yield temporary


def _settle(files: Mapping[Path, object], card: Path, named: Callable[[dict[str, Any]], Digests]) -> None:
    """Rename pending files that the current card names, and remove other pending files."""
    pending = [path for path in files if os.path.lexists(pending_path(path))]
    if not pending:
        return
    try:
        wanted = named(read_json(card, CardError))
    except (MissingFileError, CardError):
        wanted = {}
    for path in pending:
        if wanted.get(path) == sha256_of(pending_path(path)):
            pending_path(path).replace(path)
        else:
            pending_path(path).unlink(missing_ok=True)


def _is_pending(path: Path, sha256: str) -> bool:
    place = pending_path(path)
    return place.is_file() and not place.is_symlink() and sha256_of(place) == sha256
