from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_prompt_runtime import Runtime

Command = Callable[..., tuple[int, str, str]]
MakePrompt = Callable[..., Path]


def test_a_text_is_classified(command: Command, tiny_bundle: Path, make_prompt: MakePrompt, engine: str) -> None:
    prompt = make_prompt("spam", "prefix", classes=3)
    code, out, _ = command("run", tiny_bundle, "--prompt", prompt, "--text", "w1 w2", "--engine", engine)
    runtime = Runtime(tiny_bundle, engine)
    runtime.load("spam", prompt)
    answer = runtime.classify("w1 w2", task="spam")
    assert (code, out) == (0, f"{answer.label}\t{answer.score:.4f}\n")


def test_json_gives_every_score(command: Command, tiny_bundle: Path, make_prompt: MakePrompt) -> None:
    prompt = make_prompt("spam", classes=2)
    code, out, _ = command("run", tiny_bundle, "--prompt", prompt, "--text", "w1", "--json")
    answer = json.loads(out)
    assert code == 0
    assert answer["label"] in answer["scores"]
    assert sum(answer["scores"].values()) == pytest.approx(1)


def test_without_a_head_it_embeds(command: Command, tiny_bundle: Path) -> None:
    code, out, _ = command("run", tiny_bundle, "--text", "w1 w2", "--json")
    wanted = Runtime(tiny_bundle).embed("w1 w2")
    assert code == 0
    assert np.allclose(json.loads(out)["embedding"], wanted, atol=1e-6)


def test_tokens_are_labelled(command: Command, tiny_tagger_bundle: Path) -> None:
    code, out, _ = command("run", tiny_tagger_bundle, "--text", "w1 w2", "--json")
    assert code == 0
    assert [token["text"] for token in json.loads(out)["tokens"]] == ["w1", "w2"]


def test_a_file_is_answered_line_by_line(
    command: Command, tiny_bundle: Path, make_prompt: MakePrompt, tmp_path: Path
) -> None:
    texts = [" ".join(["w3"] * (number % 5 + 1)) for number in range(37)]
    path = tmp_path / "in.jsonl"
    path.write_text("\n\n".join(json.dumps({"text": text}) for text in texts), encoding="utf-8")
    prompt = make_prompt("spam", classes=2)
    code, out, err = command("run", tiny_bundle, "--prompt", prompt, "--input", path, "--json")
    runtime = Runtime(tiny_bundle)
    runtime.load("spam", prompt)
    assert code == 0
    assert err == ""
    assert [json.loads(line)["label"] for line in out.splitlines()] == [
        runtime.classify(text, task="spam").label for text in texts
    ]


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"text": ""}', '{"text": 3}', "\udcff"])
def test_a_broken_line_is_named(command: Command, tiny_bundle: Path, tmp_path: Path, line: str) -> None:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"text": "w1"}\n' + line.encode("utf-8", "surrogateescape") + b"\n")
    code, _, err = command("run", tiny_bundle, "--input", path)
    assert code == 1
    assert "line 2" in err
    assert err.startswith("Error: ")


def test_a_long_text_is_cut_with_one_line_of_warning(tiny_bundle: Path) -> None:
    arguments = ["run", str(tiny_bundle), "--text", "w1 " * 99]
    ended = subprocess.run(
        [sys.executable, "-m", "edge_prompt", *arguments], capture_output=True, text=True, check=True
    )
    assert ended.stderr.startswith("Warning: text 0 ")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [(), ("--text", "w1", "--input", "x.jsonl")])
def test_text_or_input_but_not_both(command: Command, tiny_bundle: Path, arguments: tuple[str, ...]) -> None:
    code, _, err = command("run", tiny_bundle, *arguments)
    assert code == 2
    assert "--input" in err


def test_errors_are_one_line(command: Command, tiny_bundle: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.npy"
    bad.write_bytes(b"no array")
    missing = tmp_path / "missing"
    for arguments in (
        (tiny_bundle, "--prompt", bad, "--text", "w1"),
        (tiny_bundle, "--prompt", missing, "--text", "w1"),
        (missing, "--text", "w1"),
        (tiny_bundle, "--text", " "),
        (tiny_bundle, "--input", missing),
    ):
        code, out, err = command("run", *arguments)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert err.startswith("Error: ")
