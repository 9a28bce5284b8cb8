"""Initialise a prompt for images from the network's own states on training images, or at random.

From training images, virtual tokens are initialised with hidden states of patches before the first layer (soft) or
before each layer (deep), and a prefix with their keys and values. The random initialisation follows Visual Prompt
Tuning (Jia et al. 2022, https://arxiv.org/abs/2203.12119). A pixel prompt is initialised with zeros, which is
equivalent to no prompt.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import torch
from torch import Tensor

from edge_prompt.base.errors import InputError
from edge_prompt_export.modalities.image.network import ConditionedVision
from edge_prompt_export.training.examples import Examples

_IMAGES = 16
"""Number of images that virtual tokens are drawn from."""


def prompt_of_images(
    kind: str, init: str, module: ConditionedVision, training: Examples, virtual_tokens: int, seed: int
) -> Tensor:
    """The prompt that tuning starts from, with the axes of a prompt file.

    Args:
        kind: The kind of prompt.
        init: A key of `IMAGE_INITS`.
        module: The backbone.
        training: The training images.
        virtual_tokens: The number of virtual tokens.
        seed: Random seed.

    Raises:
        InputError: `init` is unknown for images.
    """
    if kind == "pixel":
        return torch.zeros([length or 0 for length in module.kinds["pixel"]])
    if init not in IMAGE_INITS:
        raise InputError(
            found=f"init {init!r} for images", wanted=f"one of {', '.join(IMAGE_INITS)}", remedy="choose one"
        )
    return IMAGE_INITS[init](kind, module, training, virtual_tokens, seed)


def _random(kind: str, module: ConditionedVision, _training: Examples, virtual_tokens: int, seed: int) -> Tensor:
    shape = [virtual_tokens if length is None else length for length in module.kinds[kind]]
    bound = math.sqrt(6 / (3 * 16 * 16 + module.hidden_size))  # VPT's bound for a ViT with patches of 16
    return bound * (2 * torch.rand(shape, generator=torch.Generator().manual_seed(seed)) - 1)


def _of_training_images(
    kind: str, module: ConditionedVision, training: Examples, virtual_tokens: int, seed: int
) -> Tensor:
    images = next(training.shuffled(_IMAGES, random.Random(seed))).request["pixel_values"]
    hidden, keys_and_values = module.layer_states(images)
    # a network without a list of layers has keys and values, but no hidden states
    slots = min(layer.shape[3] for layer in keys_and_values) if kind == "prefix" else hidden[0].shape[1]
    generator = torch.Generator().manual_seed(seed)
    places = torch.cat(
        [torch.randperm(len(images) * slots, generator=generator) for _ in range(1 + virtual_tokens // slots)]
    )
    rows, columns = places[:virtual_tokens] // slots, places[:virtual_tokens] % slots
    if kind == "prefix":
        return torch.stack([layer[:, rows, :, columns].permute(1, 2, 0, 3) for layer in keys_and_values])
    drawn = [states[rows, columns] for states in hidden]
    return drawn[0] if kind == "soft" else torch.stack(drawn)


IMAGE_INITS: dict[str, Callable[[str, ConditionedVision, Examples, int, int], Tensor]] = {
    "training-image": _of_training_images,
    "random": _random,
}
