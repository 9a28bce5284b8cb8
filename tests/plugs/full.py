"""Run whole commands on full file systems: `unshare --mount python -m tests.plugs.full [--steps N] [COMMAND …]`.

Each command writes into a file system of its own in memory: with more and more room, under larger and larger limits on
the file size, and read-only. It must succeed, or end with one message and exit code 1 and leave the old state intact.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.plugs.pull import SAID, Pulled, prepared, start

ROOM_BYTES = 64 << 20
"""The size of the file system; what a command may use of it is what is not filled."""

PAGE_BYTES = 4096

MOUNT = shutil.which("mount") or "/bin/mount"


def refused(name: str, command: Pulled, work: Path, steps: int) -> str:
    """Run a command with too little of every resource; return how often it was refused.

    Raises:
        AssertionError: It ended without a message, or did not leave the old state.
    """
    out, scratch = work / "out", work / "scratch"
    scratch.mkdir(exist_ok=True)
    used = _used_bytes(command, out, scratch)
    ended = {"refused": 0, "well": 0}
    for step in range(steps):
        share = used * step // (steps - 1)
        for how in (_filled, _limited):
            with Mounted(out):
                command.prepare()
                old = command.read()
                code = how(command, out, scratch, share)
                ended["refused" if code else "well"] += 1
                _require(command, f"{name}, {how.__name__} to {share} bytes", code, old, out)
    with Mounted(out):
        command.prepare()
        old = command.read()
        subprocess.run([MOUNT, "-o", "remount,ro", out], check=True)
        code = _run(command, scratch)
        assert code == 1, name
        assert "Read-only file system" in SAID.read_text(), SAID.read_text()
        _require(command, f"{name}, read-only", code, old, out)
    return f"{name}: {ended['refused']} refused, {ended['well']} ended well, of up to {used:,} bytes; read-only refused"


def _require(command: Pulled, when: str, code: int, old: object, out: Path) -> None:
    said = SAID.read_text()
    assert code in {0, 1}, (when, code, said)
    assert "Traceback" not in said, (when, said)
    left = [path.name for path in out.iterdir() if path.name.startswith(".")]
    assert not left, (when, left)
    if code:
        assert said.splitlines()[-1].startswith("Error: "), (when, said)
        assert command.read() == old, (when, said)
    else:
        assert command.read() != old, (when, said)


class Mounted:
    """A file system in memory at `folder`, for the duration of the block."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        """Mount it."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir()
        subprocess.run([MOUNT, "-t", "tmpfs", "-o", f"size={ROOM_BYTES}", "none", self._folder], check=True)

    def __exit__(self, *_: object) -> None:
        """Unmount it."""
        subprocess.run([f"{Path(MOUNT).parent}/umount", self._folder], check=True)


def _used_bytes(command: Pulled, out: Path, scratch: Path) -> int:
    """Return roughly what a command needs: its new files, and some room for temporary ones."""
    with Mounted(out):
        command.prepare()
        before = shutil.disk_usage(out).free
        assert _run(command, scratch) == 0, SAID.read_text()
        return before - shutil.disk_usage(out).free + 5 * PAGE_BYTES


def _filled(command: Pulled, out: Path, scratch: Path, share: int) -> int:
    ballast = out / "ballast"
    ballast.write_bytes(bytes(max(0, shutil.disk_usage(out).free - share) // PAGE_BYTES * PAGE_BYTES))
    try:
        return _run(command, scratch)
    finally:
        ballast.unlink()


def _limited(command: Pulled, out: Path, scratch: Path, share: int) -> int:  # as `_filled`
    limit = max(PAGE_BYTES // 2, share // 4)  # its message must fit as well
    return _run(command, scratch, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))


def _run(command: Pulled, scratch: Path, first: Callable[[], object] = lambda: None) -> int:
    _, status = os.waitpid(start(command.arguments, scratch, first), 0)
    return os.waitstatus_to_exitcode(status)


def run() -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commands", nargs="*")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--networks", type=Path, help="where the tiny networks lie, or will")
    given = parser.parse_args()
    with prepared(given.networks) as (table, work):
        for command in given.commands or table:
            print(refused(command, table[command], work, given.steps), flush=True)  # noqa: T201 - a script


if __name__ == "__main__":
    run()
