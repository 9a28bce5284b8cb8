from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_prompt_runtime import Generation, Runtime
from tests.conftest import MakePrompt

Command = Callable[..., tuple[int, str, str]]


def wanted(bundle: Path, request: Any, prompt: Path | None = None, **settings: Any) -> Generation:
    runtime = Runtime(bundle)
    if prompt is not None:
        runtime.load("task", prompt)
    answer = runtime.generate(request, None if prompt is None else "task", **settings)
    assert isinstance(answer, Generation)
    return answer


def test_a_text_is_continued_under_a_prompt(
    command: Command, tiny_language_bundle: Path, make_prompt: MakePrompt, engine: str
) -> None:
    prompt = make_prompt("desk", "prefix", bundle=tiny_language_bundle)
    arguments = ("generate", tiny_language_bundle, "the oil", "--max-new-tokens", "6", "--engine", engine)
    code, out, _ = command(*arguments, "--prompt", prompt)
    assert (code, out) == (0, f"{wanted(tiny_language_bundle, 'the oil', prompt, max_new_tokens=6)}\n")
    _, base, _ = command(*arguments)
    assert base == f"{wanted(tiny_language_bundle, 'the oil', max_new_tokens=6)}\n"


def test_every_setting_reaches_the_runtime(command: Command, tiny_language_bundle: Path) -> None:
    settings: dict[str, Any] = {
        "max_new_tokens": 12,
        "temperature": 1.5,
        "top_k": 200,
        "top_p": 0.95,
        "min_p": 0.001,
        "repetition_penalty": 1.1,
        "seed": 7,
        "top_logprobs": 2,
    }
    options = [part for name, value in settings.items() for part in (f"--{name.replace('_', '-')}", value)]
    code, out, _ = command("generate", tiny_language_bundle, "the oil", *options, "--json")
    answer = wanted(tiny_language_bundle, "the oil", **settings)
    shown = json.loads(out)
    assert code == 0
    assert (shown["text"], shown["finish_reason"]) == (answer.text, answer.finish_reason)
    assert tuple(shown["tokens"]) == answer.tokens
    assert shown["num_prompt_tokens"] == answer.num_prompt_tokens
    assert [len(place["top"]) for place in shown["logprobs"]] == [2] * len(answer.tokens)


def test_it_ends_before_a_stop(command: Command, tiny_language_bundle: Path) -> None:
    whole = wanted(tiny_language_bundle, "the oil", max_new_tokens=20).text
    stop = whole[len(whole) // 2 :][:2]
    arguments = ("generate", tiny_language_bundle, "the oil", "--max-new-tokens", 20, "--stop", "never there")
    code, out, _ = command(*arguments, "--stop", stop, "--json")
    assert code == 0
    answer = json.loads(out)
    assert answer["text"] == whole[: whole.index(stop)]
    assert answer["finish_reason"] == "stop"
    assert "logprobs" not in answer


def test_a_chat_is_put_into_the_models_template(command: Command, tiny_language_bundle: Path) -> None:
    arguments = ("generate", tiny_language_bundle, "hello", "--chat", "--max-new-tokens", 5)
    user = {"role": "user", "content": "hello"}
    _, out, _ = command(*arguments)
    assert out == f"{wanted(tiny_language_bundle, [user], max_new_tokens=5)}\n"
    told = [{"role": "system", "content": "be brief"}, user]
    _, out, _ = command(*arguments, "--system", "be brief", "--json")
    answer = wanted(tiny_language_bundle, told, max_new_tokens=5)
    assert json.loads(out)["num_prompt_tokens"] == answer.num_prompt_tokens
    assert json.loads(out)["text"] == answer.text


def test_a_text_comes_from_standard_input(
    command: Command, tiny_language_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("the oil price é".encode())))
    _, out, _ = command("generate", tiny_language_bundle, "-", "--max-new-tokens", 5)
    assert out == f"{wanted(tiny_language_bundle, 'the oil price é', max_new_tokens=5)}\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff")))
    code, _, err = command("generate", tiny_language_bundle, "-")
    assert code == 1
    assert err.startswith("Error: standard input is not valid UTF-8")


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--system", "x"], 2, "--system requires --chat"),
        (["--top-logprobs", "1"], 2, "--top-logprobs requires --json"),
        (["--temperature", "nan"], 1, "Error: temperature=nan; expected"),
        (["--top-p", "2"], 1, "Error: top_p=2.0; expected"),
        (["--stop", ""], 1, "Error: stop=''; expected"),
        (["--max-new-tokens", "0"], 1, "Error: "),
        (["--prompt", "nowhere.npy"], 1, "Error: nowhere.npy"),
    ],
)
def test_bad_options_are_one_line(
    command: Command, tiny_language_bundle: Path, options: list[str], code: int, message: str
) -> None:
    found, out, err = command("generate", tiny_language_bundle, "the oil", *options)
    assert (found, out) == (code, "")
    assert message in err
    assert "Traceback" not in err


def test_networks_that_cannot_generate_are_refused(command: Command, tiny_bundle: Path) -> None:
    code, _, err = command("generate", tiny_bundle, "w1")
    assert code == 1
    assert err.startswith("Error: ")


def test_text_is_streamed(tiny_language_bundle: Path) -> None:
    """A reader that leaves after the first bytes ends the command: nothing waits for the end."""
    command = [sys.executable, "-m", "edge_prompt", "generate", str(tiny_language_bundle), "the oil"]
    with subprocess.Popen(
        [*command, "--max-new-tokens", "60", "--temperature", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.read(1)
        process.stdout.close()
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
