"""The commands that know several modalities, on a language model."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge_prompt_runtime import Runtime
from tests.conftest import MakePrompt


def invoked(name: str, *arguments: object) -> Result:
    command = importlib.import_module(f"edge_prompt_runtime.commands.{name}").command
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_run_generates(tiny_language_bundle: Path, make_prompt: MakePrompt, engine: str, tmp_path: Path) -> None:
    prompt = make_prompt("desk", bundle=tiny_language_bundle)
    runtime = Runtime(tiny_language_bundle, engine)
    runtime.load("desk", prompt)
    rows = runtime.generate(["the oil", "states"], "desk")
    assert isinstance(rows, list)
    lines = tmp_path / "texts.jsonl"
    lines.write_text('{"text": "the oil"}\n{"text": "states"}\n')
    arguments = ("--prompt", prompt, "--engine", engine)
    result = invoked("run", tiny_language_bundle, *arguments, "--input", lines, "--json")
    assert [json.loads(line)["text"] for line in result.output.splitlines()] == [row.text for row in rows]


def test_run_classifies_where_the_task_has_labels(tiny_language_bundle: Path, make_prompt: MakePrompt) -> None:
    prompt = make_prompt("topics", bundle=tiny_language_bundle, labels=("oil", "rose"))
    result = invoked("run", tiny_language_bundle, "--prompt", prompt, "--text", "the oil", "--json")
    assert set(json.loads(result.output)["scores"]) == {"oil", "rose"}


def test_run_asks_for_a_text(tiny_language_bundle: Path) -> None:
    result = invoked("run", tiny_language_bundle, "--image", "cat.png")
    assert "--image for a backbone for texts; expected --text" in str(result.exception)


def test_verify_repeats_what_torch_gave(tiny_language_bundle: Path, make_prompt: MakePrompt) -> None:
    prompt = make_prompt("desk", "prefix", bundle=tiny_language_bundle)
    result = invoked("verify", tiny_language_bundle, "--prompt", prompt)
    assert result.exit_code == 0, result.output
    for engine in ("onnxruntime", "openvino"):
        assert f"{engine}: difference from torch at export: base" in result.output


@pytest.mark.parametrize("said", ["text-generation", "128 positions", "320 tokens", "takes prefix"])
def test_inspect_says_what_it_is(said: str, tiny_language_bundle: Path) -> None:
    assert said in invoked("inspect", tiny_language_bundle).output
