from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_prompt_runtime.bench.results import read_results

Command = Callable[..., tuple[int, str, str]]
SMALL = ("--engine", "onnxruntime", "--threads", 1, "--rounds", 6, "--starts", 0, "--lengths", "2")


@pytest.fixture(autouse=True)
def _in_80_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_a_run_is_shown_written_compared_and_shown_again(command: Command, tiny_bundle: Path, tmp_path: Path) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    code, out, err = command("bench", tiny_bundle, *SMALL, "--json", old)
    assert (code, err) == (0, "")
    assert "request, soft of 2" in out
    assert "What changed" not in out
    assert read_results(old).settings["threads"] == 1

    code, out, _ = command("bench", tiny_bundle, *SMALL, "--batch", 2, "--compare", old, "--json", new)
    assert code == 0
    assert out.index("request, soft of 2") < out.index("What changed since")
    assert "request was {'input_ids': [1, 32]}" in out.replace("\n", " ")

    code, compared, _ = command("bench", new, "--compare", old)
    assert code == 0
    assert out.endswith(compared)
    code, shown, _ = command("bench", new)
    assert (code, out) == (0, shown + compared)


@pytest.mark.parametrize("content", ["{}", "no JSON"])
def test_a_bad_file_is_refused_before_anything_is_measured(
    command: Command, tiny_bundle: Path, tmp_path: Path, content: str
) -> None:
    old = tmp_path / "old.json"
    old.write_text(content)
    code, out, err = command("bench", tiny_bundle, "--compare", old, "--json", tmp_path / "new.json")
    assert (code, out) == (1, "")
    assert err.startswith(f"Error: {old}")
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".json"] == ["old.json"]


def test_a_place_that_cannot_be_written_is_refused_first(command: Command, tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file" / "new.json", tmp_path):
        code, out, err = command("bench", tiny_bundle, "--json", place)
        assert (code, out) == (1, "")
        assert err.startswith(f"Error: {place}")
        assert "Traceback" not in err


def test_a_refused_run_writes_nothing(command: Command, tiny_bundle: Path, tmp_path: Path) -> None:
    place = tmp_path / "new" / "new.json"
    code, _, err = command("bench", tiny_bundle, "--prompt", tmp_path / "none.npy", "--json", place)
    assert (code, err.count("\n")) == (1, 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", [("--rounds", 5), ("--json", "x.json"), ("--engine", "openvino")])
def test_a_file_of_results_is_not_measured(command: Command, tmp_path: Path, option: tuple[object, ...]) -> None:
    (tmp_path / "old.json").write_text("{}")
    code, _, err = command("bench", tmp_path / "old.json", *option)
    assert code == 2
    assert f"{option[0]} applies only to a bundle" in err


@pytest.mark.parametrize(
    "option", [("--image-size", "224"), ("--lengths", "8,x"), ("--batch", 0), ("--engine", "torch"), ("--threads", -1)]
)
def test_options_are_checked(command: Command, tiny_bundle: Path, option: tuple[object, ...]) -> None:
    assert command("bench", tiny_bundle, *option)[0] == 2


def test_a_missing_bundle_is_reported(command: Command, tmp_path: Path) -> None:
    code, _, err = command("bench", tmp_path / "none")
    assert code == 1
    assert json.dumps(err).count("Error") == 1
