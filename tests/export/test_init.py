from __future__ import annotations

import subprocess
import sys

import pytest

import edge_prompt_export


@pytest.mark.parametrize("name", edge_prompt_export.__all__)
def test_every_public_name_exists(name: str) -> None:
    assert getattr(edge_prompt_export, name).__name__ == name


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'edge_prompt_export' has no attribute 'nonsense'"):
        _ = edge_prompt_export.nonsense


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import edge_prompt_export, sys; print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "onnx", "openvino"} & set(result.stdout.split())
