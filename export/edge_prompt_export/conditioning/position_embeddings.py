"""Position embeddings that a vision transformer interpolates to the size of its images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edge_prompt_export.base.private_names import is_traced


def keep_interpolated_positions(model: nn.Module) -> None:
    """Store interpolated positions as a constant in exported graphs, for a network whose images have one size.

    A traced transformers model interpolates the positions again in every forward pass. That is wasted work, and some
    bicubic filters of the engines differ from torch's (by 4e-3 with antialiasing, as in DINOv2 with registers).
    """
    for module in model.modules():
        original = getattr(module, "interpolate_pos_encoding", None)
        if callable(original) and isinstance(module, nn.Module):
            module.interpolate_pos_encoding = _cached(original)


def _cached(original: Any) -> Any:
    cached: dict[tuple[int, ...], Tensor] = {}

    def interpolate_pos_encoding(embeddings: Tensor, *sizes: Any) -> Tensor:
        exporting = is_traced() or torch.compiler.is_exporting()
        key = tuple(int(size) for size in sizes if not isinstance(size, Tensor) or size.ndim == 0)  # Hiera: positions
        if exporting and key in cached:
            return cached[key]
        positions: Tensor = original(embeddings, *sizes)
        if not exporting:
            cached[key] = positions.detach()
        return positions

    return interpolate_pos_encoding
