"""What a model's own `generation_config.json` asks for, as settings; what the caller asks for goes before it.

The file is read as transformers reads it. It can ask for what is not done here, such as beam search. That would change
the text, and the file cannot be changed where it lies (its digest stands in the manifest), so it is not refused but
said, in a `GenerationConfigWarning`; `warnings.simplefilter("error", GenerationConfigWarning)` makes it an error.
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
"""What transformers takes where a model samples and does not say how many tokens from."""

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
"""What changes the text and is not done here: the values, beside null, at which it changes nothing."""

_NEUTRAL_SAMPLING: dict[str, tuple[Any, ...]] = {
    "typical_p": (1,),
    "top_h": (),
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
}
"""The same, of what counts only where tokens are drawn."""

_SAME = {
    "max_new_tokens": int,
    "max_length": int,
    "top_k": int,
    "top_p": float,
    "min_p": float,
    "repetition_penalty": float,
}
"""What the file calls as we do."""


def settings_from(generation_config: Mapping[str, Any], **asked: Any) -> GenerationSettings:
    """Settings by the model's own defaults and, before them, what the caller asked for.

    `do_sample` false or absent is temperature 0, whatever temperature the file names. A caller's `max_new_tokens` or
    `max_length` replaces both of the file's. A caller's `stop_token_ids` join the model's own: without these it would
    run on past its end.

    Args:
        generation_config: The content of the model's `generation_config.json`; empty if it has none.
        **asked: Fields of `GenerationSettings`; None is as if it had not been asked for.

    Raises:
        ManifestError: The file is malformed.
        InputError: What was asked for is unknown, of another type or out of range.

    Warns:
        GenerationConfigWarning: The file asks for what is not done here.
    """
    known = [field.name for field in fields(GenerationSettings)]
    unknown = sorted(asked.keys() - set(known))
    if unknown:
        raise InputError(
            found=f"the setting {unknown[0]!r}", wanted=f"one of {', '.join(known)}", remedy="check its name"
        )
    asked = {name: value for name, value in asked.items() if value is not None}
    own = _own(Fields(generation_config, GENERATION_CONFIG_NAME, ManifestError))
    _require_sound(own)
    if asked.keys() & {"max_new_tokens", "max_length"}:
        own = {name: value for name, value in own.items() if name not in {"max_new_tokens", "max_length"}}
    joined = {**own, **asked}
    if "stop_token_ids" in asked:
        theirs = GenerationSettings(stop_token_ids=asked["stop_token_ids"]).stop_token_ids
        joined["stop_token_ids"] = tuple(dict.fromkeys((*own["stop_token_ids"], *theirs)))
    settings = GenerationSettings(**joined)
    _warn_of_the_rest(generation_config, settings)
    return settings


def _own(config: Fields) -> dict[str, Any]:
    """The fields of `GenerationSettings` that the file gives."""
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
    """One value, several, or none."""
    found = config.value.get(name)
    values = found if isinstance(found, list) else [] if found is None else [found]
    if not all(isinstance(value, kind) and not isinstance(value, bool) for value in values):
        config.refuse(f"{name!r} is {str(found)[:60]}", f"{name!r} as {kind.__name__} or a list of them")
    return tuple(values)


def _require_sound(own: Mapping[str, Any]) -> None:
    """Refuse values out of range by the name of the file: it was not the caller who passed them."""
    try:
        GenerationSettings(**own)
    except InputError as error:
        raise ManifestError(
            found=f"{GENERATION_CONFIG_NAME}: {error.found}",
            wanted=error.wanted,
            remedy="restore the file or write it anew",
        ) from error


def _warn_of_the_rest(config: Mapping[str, Any], settings: GenerationSettings) -> None:
    table = _NEUTRAL if settings.greedy else {**_NEUTRAL, **_NEUTRAL_SAMPLING}
    rest = [name for name, neutral in table.items() if config.get(name) is not None and config[name] not in neutral]
    if rest:
        named = ", ".join(f"{name}={str(config[name])[:30]}" for name in rest)
        warnings.warn(
            f"{GENERATION_CONFIG_NAME} asks for {named}, which is not done here: texts may differ from the model's own",
            GenerationConfigWarning,
            stacklevel=3,
        )
