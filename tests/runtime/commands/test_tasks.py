from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_prompt.formats.card import card_path
from edge_prompt.untrusted.npy import write_npy
from tests.conftest import MakePrompt

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")


def by_name(out: str) -> dict[str, dict[str, object]]:
    rows = [json.loads(line) for line in out.splitlines()]
    return {row["name"]: row for row in rows}


def test_the_prompts_of_a_folder_are_listed(command: Command, make_prompt: MakePrompt) -> None:
    path = make_prompt("spam", "prefix", length=4, classes=9)
    write_npy(path.with_name("bare.npy"), np.ones((3, 32), np.float32))
    code, out, _ = command("tasks", path.parent)
    assert code == 0
    spam = next(line for line in out.splitlines() if "spam" in line)
    for wanted in ("prefix", "2 2 4 4 8", f"{2 * 2 * 4 * 4 * 8 * 4 + 9 * 33 * 4:,}", "spam_0, spam_1", "(9)", "ready"):
        assert wanted in spam
    assert "?" in next(line for line in out.splitlines() if "bare" in line)
    assert "2 tasks, 0 rejected" in out


def test_a_bundle_and_its_own_prompts(command: Command, make_prompt: MakePrompt, bundle_copy: Path) -> None:
    path = make_prompt("spam", "soft", length=4)
    make_prompt("long", "soft", length=63)
    write_npy(path.with_name("bare.npy"), np.ones((3, 32), np.float32))
    shutil.copytree(path.parent, bundle_copy / "prompts")
    code, out, _ = command("tasks", bundle_copy, "--json")
    found = by_name(out)
    assert code == 1
    assert (found["spam"]["kind"], found["spam"]["shape"], found["spam"]["problem"]) == ("soft", [4, 32], "")
    assert found["bare"]["kind"] == "soft"  # the bundle says so
    assert "63 virtual tokens" in str(found["long"]["problem"])


def test_a_deep_prompt_is_not_folded_for_it(command: Command, make_prompt: MakePrompt, tiny_image_bundle: Path) -> None:
    path = make_prompt("deep", "deep", length=3, bundle=tiny_image_bundle, classes=3)
    code, out, _ = command("tasks", path.parent, "--bundle", tiny_image_bundle, "--json")
    assert code == 0
    assert by_name(out)["deep"]["kind"] == "deep"


def test_refused_prompts_are_reported(
    command: Command, make_prompt: MakePrompt, tiny_image_bundle: Path, tmp_path: Path
) -> None:
    path = make_prompt("good", "soft")
    make_prompt("altered", "soft").write_bytes(b"no prompt")
    card_path(make_prompt("card", "soft")).write_text("{")
    other = make_prompt("other", "prefix", bundle=tiny_image_bundle)
    (path.parent / "out.npy").symlink_to(tmp_path / "elsewhere.npy")
    code, out, _ = command("tasks", path.parent, "--json")
    problems = {name: row["problem"] for name, row in by_name(out).items()}
    assert code == 1
    assert problems.pop("good") == problems.pop(other.stem) == ""
    assert set(problems) == {"altered", "card", "out"}
    assert "leads" not in problems  # each is one sentence
    assert all("; " in str(problem) for problem in problems.values())


def test_a_missing_folder_is_reported(command: Command, tmp_path: Path) -> None:
    code, _, error = command("tasks", tmp_path / "nowhere")
    assert code == 1
    assert "no such folder" in error
