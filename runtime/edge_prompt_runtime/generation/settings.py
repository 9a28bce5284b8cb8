"""Settings of generation, and their validation."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, NamedTuple, NoReturn

from edge_prompt.base.errors import InputError

DEFAULT_MAX_NEW_TOKENS = 256
"""The limit if neither the caller nor the model sets one."""

MAX_STOPS = 64
MAX_STOP_CHARACTERS = 1024
"""Limits on stop strings, because every piece of text is compared with each of them."""


class _Range(NamedTuple):
    kind: type[int | float]
    least: float
    most: float
    wanted: str


_RANGES = {
    "max_new_tokens": _Range(int, 1, 2**31 - 1, "an integer from 1, or None"),
    "max_length": _Range(int, 1, 2**31 - 1, "an integer from 1, or None"),
    "temperature": _Range(float, 0.0, 1e6, "a number from 0 (greedy) to 1e6"),
    "top_k": _Range(int, 0, 2**31 - 1, "an integer from 1, or 0 or None for all tokens"),
    "top_p": _Range(float, 0.0, 1.0, "a number from 0 to 1, or None for all tokens"),
    "min_p": _Range(float, 0.0, 1.0, "a number from 0 to 1, or None for all tokens"),
    "repetition_penalty": _Range(float, 1e-6, 1e6, "a number from 1e-6 to 1e6, or None for no penalty"),
    "seed": _Range(int, 0, 2**64 - 1, "an integer from 0 to 2**64 - 1, or None for a different text each time"),
    "top_logprobs": _Range(int, 0, 1000, "an integer from 0 to 1000, or None for no log-probabilities"),
}

_ALWAYS = frozenset({"temperature"})
"""Settings that may not be None."""


@dataclass(frozen=True, kw_only=True)
class GenerationSettings:
    """Settings of generation for a row. None turns a setting off.

    Attributes:
        max_new_tokens: Maximum number of tokens to generate; None uses `max_length`, or `DEFAULT_MAX_NEW_TOKENS`.
        max_length: Maximum number of tokens of request and generated text together; `max_new_tokens` overrides it.
        temperature: Divides the logits before sampling; 0 is greedy: the most likely token is chosen.
        top_k: Sample only from this many of the most likely tokens; 0 turns it off.
        top_p: Sample only from the smallest set of most likely tokens with this total probability; 1 turns it off.
        min_p: Sample only from tokens with at least this share of the highest probability; 0 turns it off.
        repetition_penalty: Divides the logits of tokens that already occur in the request or the generated text, or
            multiplies them if they are negative; 1 turns it off (Keskar et al. 2019, https://arxiv.org/abs/1909.05858).
        seed: Makes sampling reproducible. Every row starts from the same seed, so a row in a batch gives the same text
            as alone.
        stop: Texts that end the row and are not part of its text; a single one may be passed without a list.
        stop_token_ids: Tokens that end the row and are not part of its text.
        ignore_eos: Whether the row continues past the model's own end-of-text tokens and stop strings, up to its limit.
        top_logprobs: Return the log-probabilities of each token and of this many of the most likely tokens.

    Raises:
        InputError: A value has the wrong type or is out of range.
    """

    max_new_tokens: int | None = None
    max_length: int | None = None
    temperature: float = 0.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    top_logprobs: int | None = None

    def __post_init__(self) -> None:
        """Check every value and convert it to its type."""
        for name, wanted in _RANGES.items():
            value = getattr(self, name)
            if value is None and name not in _ALWAYS:
                continue
            _require(name, value, wanted)
            object.__setattr__(self, name, wanted.kind(value))
        if not isinstance(self.ignore_eos, bool):
            _refuse_setting("ignore_eos", self.ignore_eos, "True or False")
        object.__setattr__(self, "stop", _stop_strings(self.stop))
        object.__setattr__(self, "stop_token_ids", _token_ids(self.stop_token_ids))

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is always chosen."""
        return self.temperature == 0.0

    def limit(self, num_prompt_tokens: int) -> int:
        """Return how many tokens may follow a request of `num_prompt_tokens` tokens; at least 1.

        Raises:
            InputError: The request alone reaches `max_length`.
        """
        if self.max_new_tokens is not None:
            return self.max_new_tokens
        if self.max_length is None:
            return DEFAULT_MAX_NEW_TOKENS
        if num_prompt_tokens >= self.max_length:
            raise InputError(
                found=f"the request has {num_prompt_tokens} tokens",
                wanted=f"fewer than max_length, which allows {self.max_length} tokens of request and new text together",
                remedy="pass max_new_tokens, or shorten the request",
            )
        return self.max_length - num_prompt_tokens


def _require(name: str, value: object, wanted: _Range) -> None:
    ill_typed = isinstance(value, bool) or not isinstance(value, Integral if wanted.kind is int else Real)
    if ill_typed or not wanted.least <= value <= wanted.most:  # type: ignore[operator]  # NaN fails the comparison
        _refuse_setting(name, value, wanted.wanted)


def _stop_strings(stop: Any) -> tuple[str, ...]:
    wanted = f"a text or a list of at most {MAX_STOPS}, each of 1 to {MAX_STOP_CHARACTERS} characters"
    stops = (stop,) if isinstance(stop, str) else _listed("stop", stop, wanted)
    faulty = [text for text in stops if not isinstance(text, str) or not 1 <= len(text) <= MAX_STOP_CHARACTERS]
    if faulty or len(stops) > MAX_STOPS:
        _refuse_setting("stop", faulty[0] if faulty else stops, wanted)
    return stops


def _token_ids(tokens: Any) -> tuple[int, ...]:
    wanted = "token ids, which are non-negative integers"
    listed = (tokens,) if isinstance(tokens, Integral) else _listed("stop_token_ids", tokens, wanted)
    for token in listed:
        if isinstance(token, bool) or not isinstance(token, Integral) or not 0 <= int(token) < 2**31:
            _refuse_setting("stop_token_ids", token, wanted)
    return tuple(int(token) for token in listed)


def _listed(name: str, values: Any, wanted: str) -> tuple[Any, ...]:
    try:
        return tuple(values)
    except TypeError:
        _refuse_setting(name, values, wanted)


def _refuse_setting(name: str, value: object, wanted: str) -> NoReturn:
    found = f"{name}={repr(value)[:60]}"
    raise InputError(found=found, wanted=wanted, remedy=f"pass another value for {name}, or leave it out")
