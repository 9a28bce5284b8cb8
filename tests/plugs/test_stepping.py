from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.places import ROOT


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forked processes")
@pytest.mark.parametrize(("module", "cases"), [("stepping", 12), ("signing", 2)])
def test_a_killed_writer_leaves_the_old_or_new_state_and_the_next_cleans_up(module: str, cases: int) -> None:
    found = subprocess.run(
        [sys.executable, "-m", f"tests.plugs.{module}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    kills = [int(line.split(": ")[1].split()[0]) for line in found.stdout.splitlines()]
    assert len(kills) == cases
    assert all(number > 10 for number in kills)
