"""Requests that are made up: as large as was asked for, of numbers at random."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_prompt.base.errors import InputError
from edge_prompt.formats.bundle import REFERENCE_NAME, Bundle
from edge_prompt.formats.preprocessing import (
    ArrayPreprocessing,
    ImagePreprocessing,
    LanguagePreprocessing,
    TextPreprocessing,
    modality_of,
)
from edge_prompt_runtime.bench.plan import DEFAULT_TOKENS, Plan
from edge_prompt_runtime.reference import reference_request

Arrays = dict[str, NDArray[Any]]

UNKNOWN_SIZE = 224
"""Height and width of arrays for an image backbone that says neither a size nor how it reads pictures."""

UNKNOWN_LENGTH = 16
"""The length of a free axis of a backbone of the user's own that brings no reference."""


def request_of(bundle: Bundle, plan: Plan, room: int) -> Arrays:
    """The arrays of a request.

    Args:
        bundle: The bundle.
        plan: What is to be measured.
        room: Tokens that fit beside the longest of the prompts that were given, and what is generated.

    Raises:
        InputError: More tokens were asked for than fit, or tokens of a backbone that reads none.
    """
    modality = modality_of(bundle.manifest.preprocessing)
    if plan.tokens is not None and modality not in _OF_TOKENS:
        raise InputError(
            found=f"{plan.tokens} tokens for a backbone that reads {modality}",
            wanted="tokens for one that reads texts",
            remedy="leave --tokens out",
        )
    return _MADE[modality](bundle, plan, room)


def item_of(bundle: Bundle, plan: Plan) -> tuple[str, Any] | None:
    """What a caller would ask about before it is read to arrays, described; None if that is arrays."""
    preprocessing = bundle.manifest.preprocessing
    if isinstance(preprocessing, ImagePreprocessing):
        if preprocessing.settings is None:
            return None
        height, width = plan.image_size
        return f"a picture of {height} x {width}", picture(plan)
    if isinstance(preprocessing, ArrayPreprocessing):
        return None
    words = plan.tokens or DEFAULT_TOKENS
    return f"a text of {words} words", " ".join(["time"] * words)


def picture(plan: Plan) -> NDArray[np.uint8]:
    """A picture of noise, `[height, width, 3]`."""
    return np.random.default_rng(0).integers(0, 256, (*plan.image_size, 3), np.uint8)


def _tokens(bundle: Bundle, plan: Plan, room: int) -> Arrays:
    preprocessing = bundle.manifest.preprocessing
    assert isinstance(preprocessing, TextPreprocessing | LanguagePreprocessing)  # noqa: S101 - chosen by it
    if (plan.tokens or 1) > room:
        raise InputError(
            found=f"requests of {plan.tokens or 1} tokens",
            wanted=f"at most {max(room, 0)}, which fit beside the prompts and what is generated",
            remedy="ask for fewer, or for other prompts",
        )
    shape = (plan.batch, plan.tokens or min(DEFAULT_TOKENS, room))
    vocabulary = preprocessing.vocab_size
    return {"input_ids": np.random.default_rng(0).integers(vocabulary // 10, vocabulary, shape)}


def _pixels(bundle: Bundle, plan: Plan, _room: int) -> Arrays:
    preprocessing = bundle.manifest.preprocessing
    assert isinstance(preprocessing, ImagePreprocessing)  # noqa: S101 - chosen by it
    if preprocessing.settings is None:
        size = (preprocessing.height or UNKNOWN_SIZE, preprocessing.width or UNKNOWN_SIZE)
        shape = (plan.batch, preprocessing.channels, *size)
        return {"pixel_values": np.random.default_rng(0).standard_normal(shape, dtype=np.float32)}
    from edge_prompt_runtime.inputs.image import prepare_image  # noqa: PLC0415 - only pictures need Pillow

    pixels = prepare_image(picture(plan), preprocessing.settings).pixel_values
    return {"pixel_values": np.repeat(pixels[None], plan.batch, axis=0)}


def _arrays(bundle: Bundle, plan: Plan, _room: int) -> Arrays:
    preprocessing = bundle.manifest.preprocessing
    assert isinstance(preprocessing, ArrayPreprocessing)  # noqa: S101 - chosen by it
    if REFERENCE_NAME in bundle.manifest.files:  # known to be of lengths and numbers that the network takes
        known = reference_request(bundle, next(iter(bundle.manifest.graphs)))
        return {name: np.repeat(array[:1], plan.batch, axis=0) for name, array in known.items()}
    return {
        name: np.zeros([plan.batch, *(length or UNKNOWN_LENGTH for length in wanted.shape[1:])], wanted.dtype)
        for name, wanted in preprocessing.inputs.items()
    }


_OF_TOKENS = frozenset({"text", "language"})

_MADE: dict[str, Callable[[Bundle, Plan, int], Arrays]] = {
    "text": _tokens,
    "language": _tokens,
    "image": _pixels,
    "arrays": _arrays,
}
"""By what a backbone reads."""
