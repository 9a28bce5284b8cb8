"""Temporary files and folders that a killed writer cannot leave behind for good.

Each lies beside its target in a numbered place, `.NAME.0.tmp`, `.NAME.1.tmp`, …, and is locked for as long as its
writer lives: the system drops a lock with the process. Whoever writes the same target next removes what lies there
unlocked, and finds it without listing the folder. Where there are no such locks (Windows, some network file systems),
nothing is removed but by its own writer.
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
"""Places that are looked at for what was left behind: so many writers of one target would have to be killed at once."""


class Temporary:
    """What is written before it takes the place of something.

    Attributes:
        path: Where it lies.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._moved = False

    def move_to(self, target: Path) -> None:
        """Rename it to `target`, at one instant, over what is there.

        Raises:
            OSError: It cannot be.
        """
        self.path.replace(target)
        self._moved = True  # from here on, what lies at its old place is another writer's

    def discard(self) -> None:
        """Remove it, unless it was moved."""
        if not self._moved:
            _remove(self.path)


@contextmanager
def temporary_file(target: Path) -> Iterator[Temporary]:
    """A new, empty file beside `target`; gone when the block ends, unless it was moved.

    Raises:
        OSError: It cannot be made.
    """
    with _made(target, _new_file) as made:
        yield made


@contextmanager
def temporary_folder(target: Path) -> Iterator[Temporary]:
    """A new, empty folder beside `target`; gone when the block ends, unless it was moved.

    Raises:
        OSError: It cannot be made.
    """
    with _made(target, _new_folder) as made:
        yield made


@contextmanager
def one_writer_in(folder: Path) -> Iterator[None]:
    """Only one thread of one process at a time is in such a block for the same folder.

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
def _made(target: Path, make: Callable[[Path], None]) -> Iterator[Temporary]:
    for number in range(PLACES):
        _remove_if_left(_place(target, number))
    path, descriptor = _make_and_lock(target, make)
    made = Temporary(path)
    try:
        yield made
    finally:
        made.discard()
        if descriptor is not None:
            os.close(descriptor)  # the lock goes last, so that nobody finds it unlocked


def _make_and_lock(target: Path, make: Callable[[Path], None]) -> tuple[Path, int | None]:
    """The first free place, made; and what holds its lock, None where there are no locks."""
    for number in count():
        path = _place(target, number)
        try:
            make(path)
        except FileExistsError:
            continue
        try:
            return path, _lock(path)
        except (BlockingIOError, FileNotFoundError):  # somebody looks whether it was left behind, and removes it
            continue
        except OSError:
            return path, None
    raise AssertionError


def _remove_if_left(path: Path) -> None:
    """Remove what lies at `path` if its writer is dead."""
    if not os.path.lexists(path):
        return
    try:
        descriptor = _lock(path)
    except OSError:  # it is in use, or gone, or there are no locks
        return
    if descriptor is not None:
        _remove(path)
        os.close(descriptor)


def _lock(path: Path) -> int | None:
    """A descriptor that holds the lock of what lies at `path`, None on a system without such locks.

    Raises:
        BlockingIOError: Another has the lock.
        FileNotFoundError: It is not there any more.
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
    """Another may have been made there between the opening and the locking."""
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
