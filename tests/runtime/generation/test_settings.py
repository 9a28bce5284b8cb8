from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from edge_prompt.base.errors import InputError
from edge_prompt_runtime.generation.settings import (
    DEFAULT_MAX_NEW_TOKENS,
    MAX_STOP_CHARACTERS,
    MAX_STOPS,
    GenerationSettings,
)


def test_the_default_is_greedy_without_filters() -> None:
    settings = GenerationSettings()
    assert settings.greedy
    assert {name: value for name, value in vars(settings).items() if value} == {}


@pytest.mark.parametrize(
    ("name", "values"),
    {
        "max_new_tokens": (0, -1, 1.5, 2.0, True, "3", 2**31),
        "max_length": (0, False, float("nan")),
        "temperature": (-0.1, float("nan"), float("inf"), None, True, "hot", 1 + 2j),
        "top_k": (-1, 1.0, True),
        "top_p": (-0.01, 1.01, float("nan"), "0.9", True),
        "min_p": (-0.01, 1.01, float("nan")),
        "repetition_penalty": (0, -1, float("inf"), float("nan"), False),
        "seed": (-1, 2**64, 1.0, True),
        "stop": ("", ["a", ""], [1], b"ab", 3, ["a" * (MAX_STOP_CHARACTERS + 1)], ["a"] * (MAX_STOPS + 1)),
        "stop_token_ids": ([-1], [1.0], [True], "12", [2**31], 2.5, ["1"]),
        "top_logprobs": (-1, 1.0, True, 1001),
    }.items(),
)
def test_what_is_out_of_range_or_of_another_type_is_refused_in_one_sentence(name: str, values: tuple[Any, ...]) -> None:
    for value in values:
        with pytest.raises(InputError, match=f"^{name}=") as caught:
            GenerationSettings(**{name: value})
        assert caught.value.wanted
        assert caught.value.remedy == f"pass another value for {name}, or leave it out"
        assert len(str(caught.value)) < 300


def test_numbers_of_numpy_and_other_reals_become_plain_ones() -> None:
    settings = GenerationSettings(
        max_new_tokens=np.int64(3),  # type: ignore[arg-type]
        temperature=Fraction(1, 2),  # type: ignore[arg-type]
        top_p=np.float32(0.5),  # type: ignore[arg-type]
        min_p=1,
        stop_token_ids=np.array([4, 5]),  # type: ignore[arg-type]
    )
    assert (settings.max_new_tokens, settings.temperature, settings.top_p, settings.min_p) == (3, 0.5, 0.5, 1.0)
    assert [type(value) for value in (settings.max_new_tokens, settings.temperature, settings.min_p)] == [
        int,
        float,
        float,
    ]
    assert settings.stop_token_ids == (4, 5)


def test_a_single_stop_string_is_accepted() -> None:
    settings = GenerationSettings(stop="###", stop_token_ids=7)  # type: ignore[arg-type]
    assert settings.stop == ("###",)
    assert settings.stop_token_ids == (7,)


@pytest.mark.parametrize(
    ("settings", "prompt", "limit"),
    [
        (GenerationSettings(), 5, DEFAULT_MAX_NEW_TOKENS),
        (GenerationSettings(max_new_tokens=7), 5, 7),
        (GenerationSettings(max_length=20), 5, 15),
        (GenerationSettings(max_length=6), 5, 1),
        (GenerationSettings(max_length=20, max_new_tokens=30), 25, 30),
    ],
)
def test_the_limit_counts_new_tokens_or_all(settings: GenerationSettings, prompt: int, limit: int) -> None:
    assert settings.limit(prompt) == limit


def test_a_request_that_fills_the_length_is_refused() -> None:
    with pytest.raises(InputError, match="the request has 6 tokens; expected fewer than max_length, which allows 6"):
        GenerationSettings(max_length=6).limit(6)
