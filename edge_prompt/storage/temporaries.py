"""Temporary files and folders that are cleaned up even if their writer is killed.

Each one has a numbered name next to its target, `.NAME.0.tmp`, `.NAME.1.tmp`, …, and stays locked while its writer is
alive: the system releases the lock when the process ends. The next writer of the same target removes unlocked
leftovers, and finds them without listing the folder. Without such locks (Windows, some network file systems), only the
writer itself removes its temporary files. Not `tempfile`, because its files stay forever when a process is killed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

HAS_LOCKS = os.name == "posix"
if HAS_LOCKS:
    import fcntl

PLACES = 8
"""The number of names that are checked for leftovers. More are left only if that many writers are killed at once."""


class Temporary:
    """A file or folder that is written before it replaces its target.

    Attributes:
        path: Its current path.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._moved = False

    def move_to(self, target: Path) -> None:
        """Rename it to `target` atomically, replacing what is there.

        Raises:
            OSError: It cannot be renamed.
        """
        self.path.replace(target)
        self._moved = True  # from now on, the old path may belong to another writer

    def discard(self) -> None:
        """Remove it, unless it was moved."""
        if not self._moved:
            _remove(self.path)


@contextmanager
def temporary_file(target: Path) -> Iterator[Temporary]:
    """Create an empty file next to `target`, and remove it at the end of the block unless it was moved.

    Raises:
        OSError: It cannot be created.
    """
    with _created(target, _new_file) as made:
        yield made


@contextmanager
def temporary_folder(target: Path) -> Iterator[Temporary]:
    """Create an empty folder next to `target`, and remove it at the end of the block unless it was moved.

    Raises:
        OSError: It cannot be created.
    """
    with _created(target, _new_folder) as made:
        yield made


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Let only one thread of one process at a time run such a block for the same folder.

    Raises:
        OSError: The folder cannot be opened.
    """
    if not HAS_LOCKS:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _created(target: Path, make: Callable[[Path], None]) -> Iterator[Temporary]:
    for number in range(PLACES):
        _remove_leftover(_place(target, number))
    path, descriptor = _make_and_lock(target, make)
    made = Temporary(path)
    try:
        yield made
    finally:
        made.discard()
        if descriptor is not None:
            os.close(descriptor)  # release the lock last, so that no other writer finds the path unlocked


def _make_and_lock(target: Path, make: Callable[[Path], None]) -> tuple[Path, int | None]:
    """Create the first free path; return it and the descriptor that holds its lock, None where there are no locks."""
    for number in count():
        path = _place(target, number)
        try:
            make(path)
        except FileExistsError:
            continue
        try:
            return path, _lock(path)
        except (BlockingIOError, FileNotFoundError):  # another writer is removing it as a leftover
            continue
        except OSError:
            return path, None
    raise AssertionError


def _remove_leftover(path: Path) -> None:
    """Remove the file or folder at `path` if its writer is no longer alive."""
    if not os.path.lexists(path):
        return
    try:
        descriptor = _lock(path)
    except OSError:  # it is in use, has been removed, or there are no locks
        return
    if descriptor is not None:
        _remove(path)
        os.close(descriptor)


def _lock(path: Path) -> int | None:
    """Return a descriptor that holds the lock of `path`; None on a system without such locks.

    Raises:
        BlockingIOError: Another writer holds the lock.
        FileNotFoundError: The path no longer exists.
        OSError: It cannot be locked.
    """
    if not HAS_LOCKS:
        return None
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _require_same(descriptor, path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _require_same(descriptor: int, path: Path) -> None:
    """Check that the path was not replaced between opening and locking it."""
    if not os.path.samestat(os.fstat(descriptor), os.lstat(path)):
        raise FileNotFoundError(path)


def _place(target: Path, number: int) -> Path:
    return target.with_name(f".{target.name}.{number}.tmp")


def _new_file(path: Path) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def _new_folder(path: Path) -> None:
    path.mkdir(0o700)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)
