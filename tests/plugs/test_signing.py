from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
def test_whoever_signs_and_is_killed_at_any_call_leaves_the_old_signature_or_the_new() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "tests.plugs.signing"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    kills = [int(line.split(": ")[1].split()[0]) for line in found.stdout.splitlines()]
    assert len(kills) == 2
    assert all(number > 10 for number in kills)
