from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from benchmarks.peers.environments import RecipeError
from benchmarks.peers.process_monitor import resident_bytes, tree, watch

HUNGRY = "import time; held = bytearray(80_000_000); held[::4096] = bytes(len(held[::4096])); time.sleep(0.3)"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HUNGRY!r}], check=True)"


def test_the_memory_of_a_child_is_counted(tmp_path: Path) -> None:
    took = watch([sys.executable, "-c", PARENT], os.environ, tmp_path / "log")
    assert took.seconds > 0.3
    assert 80_000_000 < took.peak_bytes < 400_000_000


def test_a_failure_is_reported_with_the_last_line(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"the disk is full \(full log: log\)"):
        watch(
            [sys.executable, "-c", "import sys; print(1); sys.exit('the disk is full')"], os.environ, tmp_path / "log"
        )


def test_this_process_is_its_own_tree() -> None:
    assert tree(os.getpid())[0] == os.getpid()
    assert resident_bytes(os.getpid()) > 1_000_000
