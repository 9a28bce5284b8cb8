"""Several files and the card that names their digests, replaced together: a reader finds all old or all new.

No system renames several files at one instant, so the card decides. New files first come to lie beside the old ones as
`.NAME.new`; then the new card is renamed over the old one, and from that instant the new files are those that it names;
then each is renamed to its own name. A reader who does not find what the card names under its own name finds it under
the other. Who is killed after the card leaves files that every reader reads, and that the next writer renames; who is
killed before it leaves files that no card names, which the next writer removes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from edge_prompt.base.errors import CardError, EdgePromptError, MissingFileError
from edge_prompt.storage.files import explained, filled, json_bytes, read_json, sha256_of, state_of, sync_folder
from edge_prompt.storage.temporaries import Temporary, one_writer_in, temporary_file

Write = Callable[[BinaryIO], object]
"""What writes one file into a stream."""

Value = TypeVar("Value")

Digests = Mapping[Path, str]
"""The SHA-256 of files, in hexadecimal."""

ATTEMPTS = 100
"""How often files are read that change while they are read: a card and the files it names are as many steps."""


def pending_path(path: Path) -> Path:
    """Where the file lies that a card may already name and that is not yet at `path`."""
    return path.with_name(f".{path.name}.new")


def write_together(
    files: Mapping[Path, Write | None],
    card: Path,
    describe: Callable[[Digests], dict[str, Any]],
    named: Callable[[dict[str, Any]], Digests],
) -> Digests:
    """Write `files` and the card that names them; whenever this is interrupted, all are old or all are new.

    Args:
        files: What writes each file, in the folder of the card; None for one that there may have been and is not now.
        card: The card's path.
        describe: From the digests of the files to what the card says.
        named: From what the card there says, which may be anything, to the digests that it names.

    Returns:
        The digests of the files.

    Raises:
        WriteError: They cannot be written.
    """
    folder = card.parent
    with ExitStack() as stack:
        new = {path: stack.enter_context(_written(path, write)) for path, write in files.items() if write is not None}
        digests = {path: sha256_of(temporary.path) for path, temporary in new.items()}
        content = json_bytes(describe(digests))
        new_card = stack.enter_context(_written(card, lambda stream: stream.write(content)))
        with explained(card), one_writer_in(folder):
            _settle(files, card, named)
            try:
                for path, temporary in new.items():
                    temporary.move_to(pending_path(path))
                sync_folder(folder)
                new_card.move_to(card)
                sync_folder(folder)
            finally:
                _settle(files, card, named)  # forward if the card is there, back if it is not
            sync_folder(folder)
    return digests


def read_as_named(path: Path, sha256: str, read: Callable[[Path], tuple[Value, str]]) -> tuple[Value, str]:
    """The file that a card names by that digest; if it is neither at `path` nor about to be, what is at `path`.

    Args:
        path: The file's own name.
        sha256: What the card names.
        read: Reads a file; gives what is in it, and the digest of what it read.

    Raises:
        EdgePromptError: As `read` raises of what is at `path`.
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
    """What `read` gives; it is called again where it refuses files that were replaced meanwhile.

    Args:
        paths: Gives the card, and the files that it names.
        read: Reads them.

    Raises:
        EdgePromptError: As `read` raises, of files that stayed as they are.
    """
    seen = None
    for _ in range(ATTEMPTS):
        try:
            return read()
        except EdgePromptError:
            found = [state_of(place) for path in paths() for place in (path, pending_path(path))]
            if found == seen:
                raise
            seen = found
    return read()


@contextmanager
def _written(path: Path, write: Write) -> Iterator[Temporary]:
    """A temporary file for `path` that is written and on the disk."""
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_file(path) as temporary:
            with filled(temporary) as stream:
                write(stream)
            yield temporary


def _settle(files: Mapping[Path, object], card: Path, named: Callable[[dict[str, Any]], Digests]) -> None:
    """Rename what is pending and named by the card that is there, and remove what is pending and not named."""
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
