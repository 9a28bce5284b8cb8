"""Random requests of a given size."""

from __future__ import annotations

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
)
from edge_prompt_runtime.bench.plan import DEFAULT_TOKENS, Plan
from edge_prompt_runtime.reference import reference_request

Arrays = dict[str, NDArray[Any]]

UNKNOWN_SIZE = 224
"""The height and width of arrays for an image backbone without a fixed size or image settings."""

UNKNOWN_LENGTH = 16
"""The length of a free axis of a custom backbone without a reference."""


def request_of(bundle: Bundle, plan: Plan, room: int) -> Arrays:
    """Create the arrays of a request.

    Args:
        bundle: The bundle.
        plan: The plan of the measurement.
        room: The number of tokens that fit next to the longest given prompt and the generated tokens.

    Raises:
        InputError: The plan requests more tokens than fit, or tokens for a backbone without tokens.
    """
    match bundle.manifest.preprocessing:
        case TextPreprocessing() | LanguagePreprocessing() as text:
            return _tokens(text.vocab_size, plan, room)
        case ImagePreprocessing() as image:
            _require_no_tokens(plan, "image")
            return _pixels(image, plan)
        case ArrayPreprocessing() as arrays:
            _require_no_tokens(plan, "arrays")
            return _arrays(bundle, arrays, plan)


def _require_no_tokens(plan: Plan, modality: str) -> None:
    if plan.tokens is not None:
        raise InputError(
            found=f"--tokens {plan.tokens} for a backbone whose modality is {modality}",
            wanted="a backbone for texts",
            remedy="omit --tokens",
        )


def item_of(bundle: Bundle, plan: Plan) -> tuple[str, Any] | None:
    """Return the input before preprocessing, with its description; None if the input is already arrays."""
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
    """Return an image of random noise, `[height, width, 3]`."""
    return np.random.default_rng(0).integers(0, 256, (*plan.image_size, 3), np.uint8)


def _tokens(vocab_size: int, plan: Plan, room: int) -> Arrays:
    if (plan.tokens or 1) > room:
        raise InputError(
            found=f"requests of {plan.tokens or 1} tokens",
            wanted=f"at most {max(room, 0)}, which fit next to the prompts and the generated tokens",
            remedy="use fewer tokens or shorter prompts",
        )
    shape = (plan.batch, plan.tokens or min(DEFAULT_TOKENS, room))
    return {"input_ids": np.random.default_rng(0).integers(vocab_size // 10, vocab_size, shape)}


def _pixels(preprocessing: ImagePreprocessing, plan: Plan) -> Arrays:
    if preprocessing.settings is None:
        size = (preprocessing.height or UNKNOWN_SIZE, preprocessing.width or UNKNOWN_SIZE)
        shape = (plan.batch, preprocessing.channels, *size)
        return {"pixel_values": np.random.default_rng(0).standard_normal(shape, dtype=np.float32)}
    from edge_prompt_runtime.inputs.image import prepare_image  # noqa: PLC0415 - only images need Pillow

    pixels = prepare_image(picture(plan), preprocessing.settings).pixel_values
    return {"pixel_values": np.repeat(pixels[None], plan.batch, axis=0)}


def _arrays(bundle: Bundle, preprocessing: ArrayPreprocessing, plan: Plan) -> Arrays:
    if REFERENCE_NAME in bundle.manifest.files:  # its lengths and values are known to be valid
        known = reference_request(bundle, next(iter(bundle.manifest.graphs)))
        return {name: np.repeat(array[:1], plan.batch, axis=0) for name, array in known.items()}
    return {
        name: np.zeros([plan.batch, *(length or UNKNOWN_LENGTH for length in wanted.shape[1:])], wanted.dtype)
        for name, wanted in preprocessing.inputs.items()
    }
