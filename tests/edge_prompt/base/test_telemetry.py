from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import sys
import {first}
import openvino
from openvino.tools.ovc import convert_model
sent = [name for name, module in sys.modules.items() if name.startswith("openvino_telemetry") and module]
print(sent)
"""


@pytest.mark.parametrize("first", ["edge_prompt_runtime.engines.openvino.engine", "edge_prompt_export"])
def test_openvino_telemetry_is_off(first: str) -> None:
    script = SCRIPT.format(first=first)
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert output.splitlines()[-1] == "[]"
