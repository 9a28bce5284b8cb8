"""Adapt a module with named inputs to tracers, which pass inputs by position."""

from __future__ import annotations

from torch import Tensor, nn


class Positional(nn.Module):
    """Takes inputs by position and passes them to a module by name.

    Args:
        module: The module, which takes its inputs by name.
        input_names: The names, in order of position.
    """

    def __init__(self, module: nn.Module, input_names: tuple[str, ...]) -> None:
        super().__init__()
        self.module = module
        self._input_names = input_names

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run the module."""
        outputs: tuple[Tensor, ...] = self.module(**dict(zip(self._input_names, inputs, strict=True)))
        return outputs
