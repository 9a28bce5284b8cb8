from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_prompt_runtime import Runtime
from edge_prompt_runtime.language.compile import CompiledPrompts
from edge_prompt_runtime.language.model import LanguageModel
from tests.conftest import MakePrompt
from tests.tiny.language import HEAD_DIM, KV_HEADS, LAYERS

BYTES_A_TOKEN = LAYERS * 2 * KV_HEADS * HEAD_DIM * 4


def compiled_prompts(runtime: Runtime) -> CompiledPrompts:
    assert isinstance(runtime.network, LanguageModel)
    return runtime.network.compiled


def kept_bytes(runtime: Runtime) -> int:
    return runtime.stats().bytes_held["compiled"]


@pytest.fixture
def several(make_prompt: MakePrompt, tiny_language_bundle: Path) -> list[Path]:
    return [make_prompt(f"task{index}", "soft", length=6, bundle=tiny_language_bundle) for index in range(5)]


def test_a_soft_prompt_is_compiled_when_it_is_loaded_and_a_prefix_costs_nothing(
    language: Runtime, prompts: dict[str, Path]
) -> None:
    language.load("prefix", prompts["prefix"])
    assert kept_bytes(language) == 0
    language.load("soft", prompts["soft"])
    assert kept_bytes(language) == 7 * BYTES_A_TOKEN
    language.load("soft", prompts["soft"])
    assert kept_bytes(language) == 7 * BYTES_A_TOKEN
    language.unload("soft")
    assert kept_bytes(language) == 0


def test_evicted_compiled_prompts_are_compiled_again(
    tiny_language_bundle: Path, engine: str, several: list[Path]
) -> None:
    ample = Runtime(tiny_language_bundle, engine, threads=1)
    scarce = Runtime(tiny_language_bundle, engine, threads=1, compiled_budget_bytes=2 * 6 * BYTES_A_TOKEN)
    nothing = Runtime(tiny_language_bundle, engine, threads=1, compiled_budget_bytes=0)
    for runtime in (ample, scarce, nothing):
        for path in several:
            runtime.load(path.stem, path)
    assert (kept_bytes(ample), kept_bytes(scarce), kept_bytes(nothing)) == (
        5 * 6 * BYTES_A_TOKEN,
        2 * 6 * BYTES_A_TOKEN,
        0,
    )
    for path in several:
        reference = ample.generate("the oil", path.stem, max_new_tokens=5)
        assert scarce.generate("the oil", path.stem, max_new_tokens=5) == reference
        assert nothing.generate("the oil", path.stem, max_new_tokens=5) == reference


def test_the_least_recently_used_is_dropped_first(tiny_language_bundle: Path, several: list[Path]) -> None:
    runtime = Runtime(tiny_language_bundle, threads=1, compiled_budget_bytes=2 * 6 * BYTES_A_TOKEN)
    first, second, third = several[:3]
    runtime.load("first", first)
    runtime.load("second", second)
    runtime.generate("the", "first", max_new_tokens=1)
    runtime.load("third", third)
    kept = [task.name for task in compiled_prompts(runtime)._kept]
    assert kept == ["first", "third"]


def test_a_compiled_prompt_is_its_keys_and_values(language: Runtime, prompts: dict[str, Path]) -> None:
    language.load("soft", prompts["soft"])
    compiled = compiled_prompts(language).of(language.task("soft"))
    past = compiled.past
    assert [part.shape for part in past] == [(1, KV_HEADS, 7, HEAD_DIM)] * (2 * LAYERS)
    assert compiled.size_bytes == 7 * BYTES_A_TOKEN
    assert all(np.isfinite(part).all() for part in past)
