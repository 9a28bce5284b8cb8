"""File access: atomic writes, bounded reads of untrusted files, and paths that stay inside their folder."""

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
"""When a library fails to write a folder and fewer bytes than this are free, the error reports the full disk."""

MAX_NAME_LENGTH = 255
"""The longest path inside a bundle; longer ones can exceed file-system limits."""

JsonError = ManifestError | CardError | AdapterError | TrustError | ResultsError
"""The errors about a malformed JSON file, depending on what the file belongs to."""

FileStat = tuple[int, int, int]
"""The inode, the size in bytes, and the modification time in nanoseconds."""

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,126}")


@contextmanager
def written_atomically(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file that appears at `path` only if the block succeeds: temporary file, fsync, rename.

    Raises:
        WriteError: The file cannot be written (no such folder, read-only, disk full). Nothing is left behind.
    """
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_file(path) as temporary:
            with synced_stream(temporary) as stream:
                yield stream
            temporary.move_to(path)
            sync_folder(path.parent)


@contextmanager
def synced_stream(temporary: Temporary) -> Iterator[BinaryIO]:
    """Open a temporary file for writing. At the end of the block it is synced and has the usual permissions.

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
    """Create a folder that appears at `path` only if the block succeeds, and yield the temporary folder to fill.

    Raises:
        WriteError: `path` exists and is not an empty folder, or cannot be written. Nothing is left behind.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise WriteError(
            found=f"{path} already exists",
            wanted="a path for a new folder",
            remedy="choose another name or remove it first",
        )
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary_folder(path) as temporary:
            with _full_disk_reported(temporary.path):
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
    """Return the bytes that `write_json` writes.

    Raises:
        ValueError: The value contains NaN or infinity.
    """
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_json(path: Path, error: type[JsonError]) -> dict[str, Any]:
    """Read an untrusted JSON object: bounded size and depth, no duplicate keys, no NaN.

    Raises:
        MissingFileError: There is no such file.
        ReadError: It cannot be read.
        JsonError: It is not such an object; `error` is the class to raise.
    """
    return read_hashed_json(path, error)[0]


def read_hashed_json(path: Path, error: type[JsonError]) -> tuple[dict[str, Any], str]:
    """Like `read_json`, but also return the SHA-256 of the bytes that were read, even if the file is replaced later."""
    content, _ = read_start(path, MAX_JSON_BYTES + 1)
    return json_object(content, str(path), error), hashlib.sha256(content).hexdigest()


def json_object(content: bytes, name: str, error: type[JsonError]) -> dict[str, Any]:
    """Decode `content`, the contents of the file `name`, as a JSON object; see `read_json`."""
    try:
        if len(content) > MAX_JSON_BYTES:
            raise _MalformedError(f"more than {MAX_JSON_BYTES} bytes")  # noqa: TRY301 - all problems are reported below
        text = content.decode("utf-8")
        value = _DECODER.decode(text)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()  # raises if there is an unpaired surrogate
        if isinstance(value, dict):
            return value
        found = f"a JSON {type(value).__name__}"
    except _MalformedError as malformed:
        found = str(malformed)
    except RecursionError:
        found = "nested too deeply"
    except ValueError as cause:  # not UTF-8, not JSON, or a number with more digits than Python converts
        found = f"not JSON ({cause})"
    raise error(
        found=f"{name}: {found}",
        wanted="one JSON object in UTF-8",
        remedy="restore the file or write it again",
    )


class _MalformedError(ValueError):
    """Content that Python accepts as JSON but that is not allowed here."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _MalformedError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} occurs twice")
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
    """Read up to `most_bytes` from the start of the regular file at `path`; return them and the size of the file.

    No more memory is allocated than the file has bytes, whatever `most_bytes` is.

    Raises:
        MissingFileError: The file does not exist or is not a regular file.
        ReadError: The file cannot be read.
    """
    try:
        descriptor = os.open(path, _READ_FLAGS)
    except (OSError, ValueError) as error:  # ValueError: a path with a NUL character
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
"""Opening must not block: only an open descriptor shows whether the path is a pipe or a file."""


def require_file(path: Path) -> Path:
    """Return `path` if it is a regular file.

    Raises:
        MissingFileError: The file does not exist or is not a regular file.
    """
    try:
        state = "" if path.is_file() else "not a regular file" if path.exists() else "no such file"
    except OSError as error:  # the name is too long, or the folder is not accessible
        state = str(error.strerror or error)
    if state:
        raise _no_file(path, state)
    return path


@contextmanager
def open_regular_file(path: Path) -> Iterator[BufferedReader]:
    """Open the regular file at `path` for reading.

    Raises:
        MissingFileError: The file does not exist or is not a regular file.
        ReadError: The file cannot be read.
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
        wanted="a readable file",
        remedy="check its permissions and the disk",
    )


def resolve_inside(folder: Path, name: str) -> Path:
    """Return the path of `name`, which comes from an untrusted file, inside `folder`.

    Raises:
        UnsafePathError: `name` is not a plain relative path, or it leaves the folder, possibly through a link.
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


def stat_inside(path: Path) -> FileStat | None:
    """Return the stat of the regular file at `path`, whose last part is a plain name; None if it does not exist.

    Raises:
        UnsafePathError: It is a link that leaves its folder.
    """
    try:
        found = os.lstat(path)
    except OSError:
        return None
    if stat.S_ISREG(found.st_mode):
        return _file_stat(found)
    if not stat.S_ISLNK(found.st_mode):
        return None
    target = resolve_inside(path.parent, path.name)
    return stat_of(target) if target.is_file() else None


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal.

    Raises:
        MissingFileError: There is no such file.
        ReadError: It cannot be read.
    """
    with open_regular_file(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def stat_of(path: Path | str) -> FileStat | None:
    """Return the stat that distinguishes a file from its replacement; None if the file does not exist."""
    try:
        return _file_stat(os.stat(path))  # noqa: PTH116 - called often: a store checks all files of a prompt on every read
    except (OSError, ValueError):
        return None


def _file_stat(found: os.stat_result) -> FileStat:
    return found.st_ino, found.st_size, found.st_mtime_ns


def _stays_inside(folder: Path, path: Path) -> bool:
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a link to itself
        return False


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def sync_folder(path: Path) -> None:
    """Sync a folder so that renames in it survive a crash. Do nothing where folders cannot be opened (Windows)."""
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
def _full_disk_reported(folder: Path) -> Iterator[None]:
    """If a library fails with its own error because the disk of `folder` is full, raise the system's error instead."""
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
def write_errors(path: Path) -> Iterator[None]:
    """Turn system errors while `path` is written into a `WriteError`; let our own errors pass unchanged."""
    try:
        yield
    except EdgePromptError:
        raise
    except OSError as error:
        raise WriteError(
            found=f"{path} cannot be written ({error.strerror or error})",
            wanted="a writable folder with enough free space",
            remedy="choose another path or free some space",
        ) from error
