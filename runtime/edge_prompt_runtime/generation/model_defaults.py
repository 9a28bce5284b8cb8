"""Default settings from a model's own `generation_config.json`; the caller's settings override them.

The file is read as transformers reads it. It may ask for features that this runtime does not support, such as beam
search. They would change the text, but the file cannot be edited in the bundle (the manifest holds its digest). So the
runtime issues a `GenerationConfigWarning`; `warnings.simplefilter("error", GenerationConfigWarning)` makes it an error.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from edge_prompt.base.errors import InputError, ManifestError
from edge_prompt.untrusted.json_fields import Fields
from edge_prompt_runtime.generation.settings import GenerationSettings
from edge_prompt_runtime.generation.warnings import GenerationConfigWarning

GENERATION_CONFIG_NAME = "generation_config.json"

TOP_K_OF_SAMPLING = 50
"""The `top_k` that transformers uses if a model samples and does not set one."""

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "num_beams": (1,),
    "num_beam_groups": (1,),
    "diversity_penalty": (0,),
    "penalty_alpha": (0,),
    "dola_layers": (),
    "constraints": ([],),
    "force_words_ids": ([],),
    "guidance_scale": (1,),
    "sequence_bias": ({}, []),
    "no_repeat_ngram_size": (0,),
    "bad_words_ids": ([],),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "exponential_decay_length_penalty": (),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "token_healing": (False,),
    "watermarking_config": ({},),
    "max_time": (),
    "num_return_sequences": (1,),
}
"""Unsupported fields that change the text, with the values, besides null, that have no effect."""

_NEUTRAL_SAMPLING: dict[str, tuple[Any, ...]] = {
    "typical_p": (1,),
    "top_h": (),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
}
"""The same for fields that only matter when sampling."""

_SAME = {
    "max_new_tokens": int,
    "max_length": int,
    "top_k": int,
    "top_p": float,
    "min_p": float,
    "repetition_penalty": float,
}
"""Fields that have the same name in the file and in `GenerationSettings`."""


def settings_from(generation_config: Mapping[str, Any], **asked: Any) -> GenerationSettings:
    """Combine the model's own defaults with the caller's settings, which take precedence.

    If `do_sample` is false or absent, the temperature is 0, whatever temperature the file names. The caller's
    `max_new_tokens` or `max_length` replaces both of the file's. The caller's `stop_token_ids` are added to the model's
    own, without which it would not stop at the end of its text.

    Args:
        generation_config: The content of the model's `generation_config.json`; empty if it has none.
        **asked: Fields of `GenerationSettings`; None counts as not set.

    Raises:
        ManifestError: The file is malformed.
        InputError: A setting is unknown, of the wrong type or out of range.

    Warns:
        GenerationConfigWarning: The file asks for a feature that is not supported.
    """
    known = [field.name for field in fields(GenerationSettings)]
    unknown = sorted(asked.keys() - set(known))
    if unknown:
        raise InputError(
            found=f"there is no setting {unknown[0]!r}",
            wanted=f"one of {', '.join(known)}",
            remedy="check the name of the setting",
        )
    asked = {name: value for name, value in asked.items() if value is not None}
    own = _own(Fields(generation_config, GENERATION_CONFIG_NAME, ManifestError))
    _require_sound(own)
    if asked.keys() & {"max_new_tokens", "max_length"}:
        own = {name: value for name, value in own.items() if name not in {"max_new_tokens", "max_length"}}
    if asked.get("ignore_eos") is True:
        own |= {"stop_token_ids": (), "stop": ()}
    joined = {**own, **asked}
    if "stop_token_ids" in asked:
        theirs = GenerationSettings(stop_token_ids=asked["stop_token_ids"]).stop_token_ids
        joined["stop_token_ids"] = tuple(dict.fromkeys((*own["stop_token_ids"], *theirs)))
    settings = GenerationSettings(**joined)
    _warn_of_the_rest(generation_config, settings)
    return settings


def _own(config: Fields) -> dict[str, Any]:
    """The fields of `GenerationSettings` that the file sets."""
    found = {name: config.optional(name, kind) for name, kind in _SAME.items()}
    own: dict[str, Any] = {name: value for name, value in found.items() if value is not None}
    temperature = config.optional("temperature", float)
    samples = bool(config.optional("do_sample", bool))
    own["temperature"] = (1.0 if temperature is None else temperature) if samples else 0.0
    if samples:
        own.setdefault("top_k", TOP_K_OF_SAMPLING)
    own["stop_token_ids"] = _list_of(config, "eos_token_id", int)
    own["stop"] = _list_of(config, "stop_strings", str)
    return own


def _list_of(config: Fields, name: str, kind: type) -> tuple[Any, ...]:
    """The values of a field that holds one value, a list, or nothing."""
    found = config.value.get(name)
    values = found if isinstance(found, list) else [] if found is None else [found]
    if not all(isinstance(value, kind) and not isinstance(value, bool) for value in values):
        config.refuse(f"{name!r} is {str(found)[:60]}", f"{name!r} as {kind.__name__} or a list of them")
    return tuple(values)


def _require_sound(own: Mapping[str, Any]) -> None:
    """Refuse values out of range, naming the file, because the caller did not pass them."""
    try:
        GenerationSettings(**own)
    except InputError as error:
        raise ManifestError(
            found=f"{GENERATION_CONFIG_NAME}: {error.found}",
            wanted=error.wanted,
            remedy="restore or rewrite the file",
        ) from error


def _warn_of_the_rest(config: Mapping[str, Any], settings: GenerationSettings) -> None:
    table = _NEUTRAL if settings.greedy else {**_NEUTRAL, **_NEUTRAL_SAMPLING}
    rest = [name for name, neutral in table.items() if config.get(name) is not None and config[name] not in neutral]
    if rest:
        named = ", ".join(f"{name}={str(config[name])[:30]}" for name in rest)
        warnings.warn(
            f"{GENERATION_CONFIG_NAME} asks for {named}, which is not supported: "
            "texts may differ from those of transformers",
            GenerationConfigWarning,
            stacklevel=3,
        )
