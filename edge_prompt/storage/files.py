"""Files: written atomically, read without trust, never followed out of their folder."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NoReturn

from edge_prompt.base.errors import (
    AdapterError,
    CardError,
    EdgePromptError,
    ManifestError,
    MissingFileError,
    ReadError,
    ResultsError,
    TrustError,
    UnsafePathError,
    WriteError,
)
from edge_prompt.storage.temporaries import Temporary, temporary_file, temporary_folder

MAX_JSON_BYTES = 4 << 20
"""More than any manifest or card needs; a larger file is refused before it is read."""

LEAST_ROOM_BYTES = 1 << 20
"""What there must be room for in a folder that a library failed to write, or the lack of room is what is reported."""

MAX_NAME_LENGTH = 255
"""Of a path inside a bundle: longer ones reach the bounds of file systems."""

JsonError = ManifestError | CardError | AdapterError | TrustError | ResultsError
"""What a file that should be JSON may be refused with, by what it belongs to."""

FileState = tuple[int, int, int]
"""Inode, bytes, and the time of the last change in ns."""

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,126}")


@contextmanager
def written_atomically(path: Path) -> Iterator[BinaryIO]:
    """A binary file that appears at `path` only when the block ends well: temporary file, fsync, rename.

    Raises:
        WriteError: The file cannot be written (no such folder, read-only, disk full); nothing is left behind.
    """
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_file(path) as temporary:
            with filled(temporary) as stream:
                yield stream
            temporary.move_to(path)
            sync_folder(path.parent)


@contextmanager
def filled(temporary: Temporary) -> Iterator[BinaryIO]:
    """A stream into a temporary file that is on the disk, and has the rights of any new file, when the block ends.

    Raises:
        OSError: It cannot be written.
    """
    with temporary.path.open("r+b") as stream:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())
    temporary.path.chmod(0o666 & ~_umask())


@contextmanager
def folder_written_atomically(path: Path) -> Iterator[Path]:
    """A folder that appears at `path` only when the block ends well; yields the temporary folder to fill.

    Raises:
        WriteError: `path` exists and is not an empty folder, or cannot be written; nothing is left behind.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise WriteError(
            found=f"{path} exists already",
            wanted="a new folder to write",
            remedy="choose another name or remove it first",
        )
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(path) as temporary:
            with _blamed_on_room(temporary.path):
                yield temporary.path
            for inner in temporary.path.rglob("*"):
                if not inner.is_symlink():
                    _sync(inner)
            temporary.path.chmod(0o777 & ~_umask())
            _sync(temporary.path)
            temporary.move_to(path)
            sync_folder(path.parent)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write `value` atomically, as indented UTF-8 JSON that ends with a newline."""
    with written_atomically(path) as stream:
        stream.write(json_bytes(value))


def json_bytes(value: dict[str, Any]) -> bytes:
    """What `write_json` writes.

    Raises:
        ValueError: There is NaN or infinity in it.
    """
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_json(path: Path, error: type[JsonError]) -> dict[str, Any]:
    """Read a JSON object without trust: bounded size, no repeated keys, no NaN, no bottomless nesting.

    Raises:
        MissingFileError: There is no such file.
        ReadError: It cannot be read.
        JsonError: It is not such an object; `error` says which of them to raise.
    """
    return read_hashed_json(path, error)[0]


def read_hashed_json(path: Path, error: type[JsonError]) -> tuple[dict[str, Any], str]:
    """As `read_json`, with the SHA-256 of the very bytes that were read, though others may stand there by now."""
    content, _ = read_start(path, MAX_JSON_BYTES + 1)
    return json_object(content, str(path), error), hashlib.sha256(content).hexdigest()


def json_object(content: bytes, name: str, error: type[JsonError]) -> dict[str, Any]:
    """The JSON object that `content`, found in `name`, is; see `read_json`."""
    try:
        if len(content) > MAX_JSON_BYTES:
            raise _MalformedError(f"more than {MAX_JSON_BYTES} bytes")  # noqa: TRY301 - one sentence for all
        text = content.decode("utf-8")
        value = _DECODER.decode(text)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair ends here
        if isinstance(value, dict):
            return value
        found = f"a JSON {type(value).__name__}"
    except _MalformedError as malformed:
        found = str(malformed)
    except RecursionError:
        found = "nested too deeply"
    except ValueError as cause:  # no UTF-8, no JSON, or a number of more digits than Python converts
        found = f"not JSON ({cause})"
    raise error(
        found=f"{name}: {found}",
        wanted="one JSON object in UTF-8",
        remedy="restore the file or write it anew",
    )


class _MalformedError(ValueError):
    """What is JSON for Python and not for us."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _MalformedError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} stands twice")
    return found


def _constant(name: str) -> NoReturn:
    raise _MalformedError(f"the number {name}")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise _MalformedError(f"the number {digits[:40]}")
    return number


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_constant, parse_float=_finite)


def read_start(path: Path, most_bytes: int) -> tuple[bytes, int]:
    """The first bytes of the regular file at `path`, at most so many, and how many there are.

    No more memory is taken than the file has bytes, however many may be asked for.

    Raises:
        MissingFileError: It is not there, or is something else.
        ReadError: It cannot be read.
    """
    try:
        descriptor = os.open(path, _READ_FLAGS)
    except (OSError, ValueError) as error:  # no path with a NUL in it is one
        raise _unreadable(require_file(path), error) from error
    try:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise _no_file(path, "not a regular file")
        wanted = min(state.st_size, most_bytes)
        content = os.read(descriptor, wanted)
        while len(content) < wanted and (more := os.read(descriptor, wanted - len(content))):
            content += more
    except OSError as error:
        if isinstance(error, EdgePromptError):
            raise
        raise _unreadable(path, error) from error
    finally:
        os.close(descriptor)
    return content, state.st_size


_READ_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
"""A pipe is told from a file only once it is open, and must not be waited for."""


def require_file(path: Path) -> Path:
    """`path`, if it is a regular file.

    Raises:
        MissingFileError: It is not there, or is something else.
    """
    try:
        state = "" if path.is_file() else "not a regular file" if path.exists() else "no such file"
    except OSError as error:  # a name that is too long, a folder that may not be entered
        state = str(error.strerror or error)
    if state:
        raise _no_file(path, state)
    return path


@contextmanager
def opened(path: Path) -> Iterator[BufferedReader]:
    """The regular file at `path`, open for reading.

    Raises:
        MissingFileError: It is not there, or is something else.
        ReadError: It cannot be read.
    """
    try:
        with require_file(path).open("rb") as stream:
            yield stream
    except EdgePromptError:
        raise
    except OSError as error:
        raise _unreadable(path, error) from error


def _no_file(path: Path, state: str) -> MissingFileError:
    return MissingFileError(found=f"{path}: {state}", wanted="a file", remedy="check the path")


def _unreadable(path: Path, error: OSError | ValueError) -> ReadError:
    return ReadError(
        found=f"{path} cannot be read ({getattr(error, 'strerror', None) or error})",
        wanted="a file and the right to read it",
        remedy="check its permissions and the disk",
    )


def resolve_inside(folder: Path, name: str) -> Path:
    """The path of `name`, which an untrusted file gave, inside `folder`.

    Raises:
        UnsafePathError: `name` is absolute, climbs out, is no plain relative path, or a link leads out.
    """
    parts = PurePosixPath(name).parts if 0 < len(name) <= MAX_NAME_LENGTH else ()
    plain = bool(parts) and not name.startswith("/") and all(_SAFE_NAME.fullmatch(part) for part in parts)
    path = folder.joinpath(*parts) if plain else folder
    if not plain or not _stays_inside(folder, path):
        raise UnsafePathError(
            found=f"the path {name[:200]!r} given in {folder}",
            wanted="a plain relative path that stays in that folder",
            remedy="do not use this file; get it again from a source you trust",
        )
    return path


def state_inside(path: Path) -> FileState | None:
    """The state of the regular file at `path`, whose last part is a plain name, in its folder; None if there is none.

    Raises:
        UnsafePathError: It is a link that leads out of its folder.
    """
    try:
        found = os.lstat(path)
    except OSError:
        return None
    if stat.S_ISREG(found.st_mode):
        return _state(found)
    if not stat.S_ISLNK(found.st_mode):
        return None
    target = resolve_inside(path.parent, path.name)
    return state_of(target) if target.is_file() else None


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal.

    Raises:
        MissingFileError: There is no such file.
        ReadError: It cannot be read.
    """
    with opened(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def state_of(path: Path | str) -> FileState | None:
    """What tells a file from one that replaces it; None if it is not there."""
    try:
        return _state(os.stat(path))  # noqa: PTH116 - a store asks for all files of a prompt whenever it reads one
    except (OSError, ValueError):
        return None


def _state(found: os.stat_result) -> FileState:
    return found.st_ino, found.st_size, found.st_mtime_ns


def _stays_inside(folder: Path, path: Path) -> bool:
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a link that leads to itself
        return False


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def sync_folder(path: Path) -> None:
    """Make what was renamed in a folder last. Where folders cannot be opened (Windows), nothing is done."""
    if os.name == "posix":
        _sync(path)


def _sync(path: Path) -> None:
    if os.name != "posix" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _blamed_on_room(folder: Path) -> Iterator[None]:
    """Where libraries fail in words of their own and there is no room in `folder`, the system's words are said."""
    try:
        yield
    except (EdgePromptError, OSError):
        raise
    except Exception as error:
        try:
            with (folder / ".room").open("wb") as stream:
                stream.write(bytes(LEAST_ROOM_BYTES))
                os.fsync(stream.fileno())
        except OSError as no_room:
            raise no_room from error
        raise


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """What the system refuses while `path` is written becomes a `WriteError`; errors of ours pass as they are."""
    try:
        yield
    except EdgePromptError:
        raise
    except OSError as error:
        raise WriteError(
            found=f"{path} cannot be written ({error.strerror or error})",
            wanted="a place with room and the right to write",
            remedy="choose another place or make room",
        ) from error
