from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
from transformers import GenerationConfig

from edge_prompt.base.errors import InputError, ManifestError
from edge_prompt.storage.files import read_json
from edge_prompt_runtime.generation.model_defaults import (
    GENERATION_CONFIG_NAME,
    TOP_K_OF_SAMPLING,
    settings_from,
)
from edge_prompt_runtime.generation.settings import GenerationSettings
from edge_prompt_runtime.generation.warnings import GenerationConfigWarning

INSTRUCT = {
    "bos_token_id": 128000,
    "do_sample": True,
    "eos_token_id": [128001, 128008],
    "temperature": 0.6,
    "top_p": 0.9,
    "transformers_version": "4.45.0",
}


def test_a_model_that_says_nothing_is_greedy() -> None:
    assert settings_from({}) == GenerationSettings()


def test_the_models_own_settings_are_the_defaults() -> None:
    assert settings_from(INSTRUCT) == GenerationSettings(
        temperature=0.6, top_p=0.9, top_k=TOP_K_OF_SAMPLING, stop_token_ids=(128001, 128008)
    )


@pytest.mark.parametrize("do_sample", [False, None])
def test_a_model_that_does_not_sample_is_greedy_whatever_its_temperature(do_sample: bool | None) -> None:
    settings = settings_from({**INSTRUCT, "do_sample": do_sample})
    assert settings.greedy
    assert settings.top_p == 0.9  # for a caller who sets a temperature


def test_a_model_that_samples_does_so_at_temperature_1_unless_it_says_another() -> None:
    assert settings_from({"do_sample": True}).temperature == 1.0
    assert settings_from({"do_sample": True, "top_k": 0}).top_k == 0


def test_the_callers_settings_take_precedence() -> None:
    settings = settings_from(INSTRUCT, temperature=0, top_k=3, top_p=None, seed=5)
    assert (settings.temperature, settings.top_k, settings.top_p, settings.seed) == (0.0, 3, 0.9, 5)


def test_the_callers_stop_tokens_join_the_models_own() -> None:
    assert settings_from({"eos_token_id": 2}, stop_token_ids=[5, 2]).stop_token_ids == (2, 5)


def test_the_models_own_ends_are_ignored_when_asked() -> None:
    own = {"eos_token_id": [2, 3], "stop_strings": ["END"]}
    assert settings_from(own, ignore_eos=False).stop_token_ids == (2, 3)
    ignoring = settings_from(own, ignore_eos=True)
    assert (ignoring.stop_token_ids, ignoring.stop) == ((), ())
    asked = settings_from(own, ignore_eos=True, stop_token_ids=[5], stop="stop here")
    assert (asked.stop_token_ids, asked.stop) == ((5,), ("stop here",))


@pytest.mark.parametrize("value", [1, 0, "yes", 1.0])
def test_whether_ends_are_ignored_is_true_or_false(value: Any) -> None:
    with pytest.raises(InputError, match=r"ignore_eos=.*; expected True or False"):
        settings_from({}, ignore_eos=value)


def test_stop_strings_of_the_model_are_replaced_by_the_callers() -> None:
    assert settings_from({"stop_strings": "###"}).stop == ("###",)
    assert settings_from({"stop_strings": ["a", "b"]}, stop=["c"]).stop == ("c",)


def test_a_length_asked_for_replaces_both_of_the_models() -> None:
    own = {"max_length": 30, "max_new_tokens": 10}
    assert settings_from(own).limit(5) == 10
    assert settings_from(own, max_length=20).limit(5) == 15
    assert settings_from({"max_length": 30}).limit(5) == 25
    assert settings_from({"max_length": 30}, max_new_tokens=40).limit(35) == 40


@pytest.mark.parametrize(
    "own",
    [
        {"temperature": "hot", "do_sample": True},
        {"temperature": -1, "do_sample": True},
        {"do_sample": "yes"},
        {"top_k": 2.5},
        {"top_p": True},
        {"top_p": 1.5},
        {"max_new_tokens": 0},
        {"max_length": [20]},
        {"eos_token_id": "2"},
        {"eos_token_id": [2, None]},
        {"eos_token_id": True},
        {"eos_token_id": -1},
        {"stop_strings": [3]},
        {"repetition_penalty": 0},
    ],
)
def test_a_malformed_file_is_refused_by_its_name(own: dict[str, Any]) -> None:
    with pytest.raises(ManifestError, match=f"^{GENERATION_CONFIG_NAME}: "):
        settings_from(own)


@pytest.mark.parametrize("asked", [{"top_p": 2}, {"max_new_tokens": 0}, {"stop_token_ids": ["a"]}, {"heat": 1}])
def test_a_wrong_request_is_refused_as_one(asked: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        settings_from(INSTRUCT, **asked)


@pytest.mark.parametrize(
    "own",
    [
        {"num_beams": 4},
        {"no_repeat_ngram_size": 3},
        {"forced_bos_token_id": 0},
        {"forced_eos_token_id": 2},
        {"guidance_scale": 1.5},
        {"suppress_tokens": [1, 2]},
        {"bad_words_ids": [[5]]},
        {"min_new_tokens": 4},
        {"exponential_decay_length_penalty": [5, 1.1]},
    ],
)
def test_unsupported_settings_are_reported(own: dict[str, Any]) -> None:
    with pytest.warns(GenerationConfigWarning, match=f"asks for {next(iter(own))}="):
        settings_from(own)


@pytest.mark.parametrize("own", [{"typical_p": 0.5}, {"epsilon_cutoff": 1e-3}, {"eta_cutoff": 1e-3}, {"top_h": 0.4}])
def test_unsupported_sampling_settings_are_reported_only_when_sampling(own: dict[str, Any]) -> None:
    settings_from(own)
    with pytest.warns(GenerationConfigWarning):
        settings_from(own, temperature=1)
    with pytest.warns(GenerationConfigWarning):
        settings_from({**own, "do_sample": True})


def test_transformers_own_defaults_are_not_reported(tmp_path: Path) -> None:
    GenerationConfig(**GenerationConfig._get_default_generation_params(), eos_token_id=2).save_pretrained(tmp_path)
    written = read_json(tmp_path / GENERATION_CONFIG_NAME, ManifestError)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        settings = settings_from({**GenerationConfig._get_default_generation_params(), **written})
    assert settings.greedy
    assert settings.stop_token_ids == (2,)
