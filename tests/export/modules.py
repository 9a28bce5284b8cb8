"""Modules of the user's own for several tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class PromptedLinear(nn.Module):
    """A linear layer that adds the sum of its prompt."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.linear = nn.Linear(16, 4)

    def forward(self, x: Tensor, soft_prompt: Tensor) -> Any:
        """`[batch, 4]` from `x [batch, 16]` and `soft_prompt [batch|1, virtual_tokens, 16]`."""
        return self.linear(x + soft_prompt.sum(1))
