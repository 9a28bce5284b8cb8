"""A program observed from outside: its duration, and the peak memory of it and its child processes."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.peers.environments import RecipeError
from benchmarks.peers.places import ROOT

INTERVAL_S = 0.02
"""Sampling interval; the system records the peak of each process in between."""


class Watched(NamedTuple):
    """The duration of a program in seconds, and the peak resident bytes of its whole process tree."""

    seconds: float
    peak_bytes: int


def watch(program: Sequence[str], surroundings: Mapping[str, str], log: Path) -> Watched:
    """Run a program to its end; its output goes to the file `log`.

    Raises:
        RecipeError: It failed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    peak = 0
    with log.open("w", encoding="utf-8") as output:
        start = time.monotonic()
        process = subprocess.Popen(program, stdout=output, stderr=subprocess.STDOUT, env=surroundings, cwd=ROOT)
        try:
            while process.poll() is None:
                peak = max(peak, resident_bytes(process.pid))
                time.sleep(INTERVAL_S)
            seconds = time.monotonic() - start
        finally:
            process.kill()
            process.wait()
    if process.returncode:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["(no output)"]
        message = f"{lines[-1][-300:]} (full log: {log.name})"
        raise RecipeError(message)
    return Watched(seconds, peak)


def resident_bytes(root: int) -> int:
    """Return the memory of the process and its descendants together, or the largest peak of one of them."""
    fields = [_memory(pid) for pid in tree(root)]
    together = sum(now for now, _ in fields)
    return max([together, *(most for _, most in fields)])


def tree(root: int) -> list[int]:
    """Return the process and its living descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            said = _read(f"/proc/{entry.name}/stat").rpartition(")")[2].split()
            if said:
                children.setdefault(int(said[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def _memory(pid: int) -> tuple[int, int]:
    """Return the memory of a process now, and its peak; 0 if it has ended."""
    lines = _read(f"/proc/{pid}/status").splitlines()
    fields = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    now, most = (1024 * int(fields[name][0]) if name in fields else 0 for name in ("VmRSS", "VmHWM"))
    return now, most


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
