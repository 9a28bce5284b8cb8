"""Kill a writer before each of its calls that change a file or a lock: `python -m tests.plugs.stepping [CASE …]`.

It runs in a process of its own with one thread and few modules, which forks within a millisecond.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

from tests.plugs.writers import WRITERS, Writer

_CHANGES = frozenset(
    {"open", "write", "writelines", "tofile", "flush", "fsync", "close", "__exit__", "truncate", "flock"}
    | {"chmod", "mkdir", "replace", "rename", "unlink", "remove", "rmdir", "link", "symlink"}
)
"""The functions of the system, of files and of arrays that change something. Between two of them nothing does."""

_MEMORY = Path("/dev/shm")  # noqa: S108 - only where the files of this script lie
"""Where nothing waits for a disk, if there is such a place."""


def step(name: str, writer: Writer) -> str:
    """Kill `writer` at every call, check the result each time, and return how often.

    Raises:
        AssertionError: A state was neither old nor new, or the next writer did not clean up.
    """
    states = []
    for calls in count(1):
        with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as where:
            folder = Path(where) / "folder"
            folder.mkdir()
            writer.prepare(folder)
            old = writer.read(folder)
            killed = _killed_at(calls, partial(writer.write, folder))
            found = writer.read(folder)
            new = found if not killed else writer.new
            assert found in {old, new}, f"{name}, killed at call {calls}: {found!r} is neither {old!r} nor {new!r}"
            assert new != old
            assert new == writer.new
            states.append(found == new)
            seen = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
            assert seen <= writer.names, f"{name}, killed at call {calls}: {seen}"
            writer.write_again(folder)
            left = {path.name for path in folder.iterdir()}
            assert left <= writer.names, f"{name}, killed at call {calls}, left {sorted(left - writer.names)}"
            assert writer.read(folder) == writer.newest
            if not killed:
                break
    assert states == sorted(states), f"{name}: new before it was old again"
    return f"{name}: {len(states) - 1} kills, {states.count(False)} left the old, {states.count(True) - 1} the new"


def _killed_at(calls: int, write: Callable[[], object]) -> bool:
    """Run `write` in a child that dies before its n-th changing call; return whether it did."""
    child = os.fork()
    if not child:
        seen = 0

        def count_calls(_: FrameType, event: str, function: Any) -> None:
            nonlocal seen
            if event == "c_call" and function.__name__ in _CHANGES:
                seen += 1
                if seen == calls:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.setprofile(count_calls)
        try:
            write()
        finally:
            sys.setprofile(None)
            os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    return False


if __name__ == "__main__":
    for case in sys.argv[1:] or WRITERS:
        print(step(case, WRITERS[case]), flush=True)  # noqa: T201 - a script
