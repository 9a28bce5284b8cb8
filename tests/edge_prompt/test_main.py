from __future__ import annotations

import subprocess
import sys

from edge_prompt import __version__


def test_the_package_runs_as_the_command() -> None:
    command = [sys.executable, "-m", "edge_prompt", "--version"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout == f"edge-prompt, version {__version__}\n"
