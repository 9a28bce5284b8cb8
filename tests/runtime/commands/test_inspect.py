from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def test_a_bundle(command: Command, tiny_bundle: Path) -> None:
    code, out, _ = command("inspect", tiny_bundle)
    assert code == 0
    for wanted in (
        "BertModel",
        "feature-extraction",
        "soft [num_virtual_tokens, 32]",
        "prefix [2, 2, 4,",
        "from torch",
    ):
        assert wanted in out


def test_a_prompt_with_a_card(command: Command, make_prompt: Callable[..., Path]) -> None:
    prompt = make_prompt(
        "spam", "prefix", length=7, classes=2, template="[b] {text}", provenance={"by": {"hand": True}}
    )
    code, out, _ = command("inspect", prompt)
    assert code == 0
    for wanted in ("[2, 2, 4, 7, 8] float32", "prefix", "spam_0, spam_1", "[b] {text}", "by.hand", "[2, 32]"):
        assert wanted in out


def test_a_bare_prompt(command: Command, tmp_path: Path) -> None:
    np.save(tmp_path / "bare.npy", np.ones((3, 4, 5), np.float16))
    code, out, _ = command("inspect", tmp_path / "bare.npy")
    assert code == 0
    assert "deep or pixel" in out


def test_nothing_there(command: Command, tmp_path: Path) -> None:
    for name in ("missing", "missing.npy"):
        code, out, err = command("inspect", tmp_path / name)
        assert (code, out, err.count("\n")) == (1, "", 1)
