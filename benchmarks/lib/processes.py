"""A script in a process of its own, which may fail or exceed its time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.report.folder import Run
from examples.real_data import ROOT

LONGEST = 300
"""Maximum of letters reported from the last line of a log."""


def run_script(name: str, script: Path, arguments: Sequence[str], logs: Path, seconds: float, *, quick: bool) -> Run:
    """Run a script until it ends, or is stopped together with its child processes.

    Args:
        name: Name for its log and its record.
        script: The file.
        arguments: Its arguments.
        logs: Folder of logs; the output goes into `NAME.log`.
        seconds: Time limit.
        quick: Recorded as given.
    """
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{name.replace('/', '-')}.log"
    begun, start = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [sys.executable, str(script), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            start_new_session=True,
        )
        try:
            code = process.wait(seconds)
            failed = f"it ended with {code}: {last_line(log)}" if code else ""
        except subprocess.TimeoutExpired:
            failed = f"it was stopped after {seconds / 60:g} minutes: {last_line(log)}"
        finally:
            _stop(process)
    return Run(name, begun, round(time.monotonic() - start, 1), failed, quick)


def last_line(log: Path) -> str:
    """Return the last line of a log that contains text, skipping borders of tables."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    said = (line.strip() for line in reversed(lines) if any(map(str.isalnum, line)))
    return next(said, "(it printed nothing)")[:LONGEST]


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a running process and its children."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
