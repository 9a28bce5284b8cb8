from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_prompt import read_prompt
from edge_prompt.cli import main


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


def test_a_prompt_goes_to_peft_and_comes_back(
    tiny_bundle: Path, make_prompt: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, folder, back = make_prompt("x", "prefix"), tmp_path / "adapter", tmp_path / "back.npy"
    assert run("export-adapter", str(path), "--bundle", str(tiny_bundle), "--output", str(folder)) == 0
    assert capsys.readouterr().out == f"wrote {folder}\n"
    options = ["--bundle", str(tiny_bundle), "-o", str(back), "--template", "Say: {text}", "--max-tokens", "9"]
    assert run("import", str(folder), *options) == 0
    assert capsys.readouterr().out == f"wrote {back}: {back.stat().st_size:,} bytes\n"
    prompt = read_prompt(back)
    np.testing.assert_array_equal(prompt.array, np.load(path))
    assert prompt.card is not None
    assert (prompt.card.template, prompt.card.max_tokens) == ("Say: {text}", 9)


def test_a_refusal_is_one_line_and_the_flag_it_names_helps(
    tiny_bundle: Path, make_prompt: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "adapter"
    arguments = ["--bundle", str(tiny_bundle), "--output", str(folder), "--base", "org/another"]
    assert run("export-adapter", str(make_prompt("x", "soft")), *arguments) == 0
    arguments = ["import", str(folder), "--bundle", str(tiny_bundle), "--output", str(tmp_path / "task.npy")]
    assert run(*arguments) == 1
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert "an adapter for 'org/another'; expected one for 'tiny_backbone'" in shown
    assert "--base-renamed" in shown
    assert run(*arguments, "--base-renamed") == 0


def test_a_lora_is_refused_by_name(tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    assert run("import", str(tmp_path), "--bundle", str(tiny_bundle), "--output", str(tmp_path / "task.npy")) == 1
    assert "an adapter of type LORA" in capsys.readouterr().err
