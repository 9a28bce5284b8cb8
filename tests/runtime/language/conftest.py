"""Fixtures for tests of causal language models on the device."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_prompt_runtime import Runtime
from tests.conftest import MakePrompt


@pytest.fixture
def language(tiny_language_bundle: Path, engine: str) -> Runtime:
    """The tiny language model on each engine in turn, without tasks."""
    return Runtime(tiny_language_bundle, engine, threads=1)


@pytest.fixture
def prompts(tiny_language_bundle: Path, make_prompt: MakePrompt) -> dict[str, Path]:
    """A soft prompt and a prefix, of different lengths."""
    return {
        "soft": make_prompt("soft", "soft", length=7, bundle=tiny_language_bundle),
        "prefix": make_prompt("prefix", "prefix", length=4, bundle=tiny_language_bundle),
    }


@pytest.fixture
def tasks(language: Runtime, prompts: dict[str, Path]) -> Runtime:
    """The tiny language model with both prompts as tasks."""
    for name, path in prompts.items():
        language.load(name, path)
    return language
