"""Augmentations for few images per class: every epoch sees each image slightly moved."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

LARGEST_SHIFT = 0.08
"""Largest shift, as a share of the image's side."""

LARGEST_SCALE = 0.1
LARGEST_TURN_RADIANS = 0.15


def nothing(pixel_values: Tensor, _random: torch.Generator) -> Tensor:
    """The unchanged images."""
    return pixel_values


def move(pixel_values: Tensor, random: torch.Generator) -> Tensor:
    """Slightly shift, scale and rotate each image; the area outside is filled with the colour of the edge.

    Args:
        pixel_values: `[batch, channels, height, width]`.
        random: The random generator.
    """
    batch = len(pixel_values)
    turn, scale, across, down = (2 * torch.rand(4, batch, generator=random) - 1).unbind(0)
    turn, scale = turn * LARGEST_TURN_RADIANS, 1 + scale * LARGEST_SCALE
    cos, sin = scale * turn.cos(), scale * turn.sin()
    rows = torch.stack(
        [torch.stack([cos, -sin, 2 * LARGEST_SHIFT * across], 1), torch.stack([sin, cos, 2 * LARGEST_SHIFT * down], 1)],
        1,
    )
    grid = F.affine_grid(rows, list(pixel_values.shape), align_corners=False)
    return F.grid_sample(pixel_values, grid, padding_mode="border", align_corners=False)


def move_and_mirror(pixel_values: Tensor, random: torch.Generator) -> Tensor:
    """Like `move`, but also mirror half of the images at random: for motifs without a left and right."""
    mirrored = torch.rand(len(pixel_values), generator=random) < 0.5
    return move(torch.where(mirrored[:, None, None, None], pixel_values.flip(3), pixel_values), random)


AUGMENTATIONS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "none": nothing,
    "move": move,
    "move-and-mirror": move_and_mirror,
}
