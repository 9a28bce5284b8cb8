"""The forms of a pixel prompt: the regions of the image in which it may differ from zero.

A pixel prompt is a tensor with the size of the whole image. The published forms are masks on it: a frame along the
edges, or a patch in a corner (Bahng et al. 2022, https://arxiv.org/abs/2203.17274).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

FRAME_SHARE = 30 / 224
"""Width of the frame, and side of the patch, as a share of the shorter side of the image; 30 of 224 in the paper."""


def full(height: int, width: int) -> Tensor:
    """Every pixel."""
    return torch.ones(height, width)


def frame(height: int, width: int) -> Tensor:
    """A frame along the edges."""
    inner = _width(height, width)
    mask = torch.ones(height, width)
    mask[inner : height - inner, inner : width - inner] = 0
    return mask


def patch(height: int, width: int) -> Tensor:
    """A square in the upper left corner."""
    side = _width(height, width)
    mask = torch.zeros(height, width)
    mask[:side, :side] = 1
    return mask


PIXEL_FORMS: dict[str, Callable[[int, int], Tensor]] = {"full": full, "frame": frame, "patch": patch}
"""Functions from height and width to a mask `[height, width]` of zeros and ones."""


def _width(height: int, width: int) -> int:
    return max(1, round(FRAME_SHARE * min(height, width)))
