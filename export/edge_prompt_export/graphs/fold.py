"""The folding graph, which converts a deep prompt to the equivalent prefix."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from edge_prompt.formats.kinds import FOLD_INPUTS
from edge_prompt_export.backbone.conditioned_module import ConditionedModule, Tensors

_TRACE_VIRTUAL_TOKENS = 5


class GraphFiles(NamedTuple):
    """The graph files that were written; the first file of each group is the one to open.

    Attributes:
        model: Files of the network's graph.
        fold: Files of the folding graph; empty if there is none.
        fold_weights_file: The weights file of the folding graph, if an engine needs its name to open the graph.
        others: Files for consumers other than the engine; they may share weights with the network's graph.
    """

    model: tuple[str, ...]
    fold: tuple[str, ...] = ()
    fold_weights_file: str | None = None
    others: tuple[str, ...] = ()


class FoldModule(nn.Module):
    """Folds a deep prompt; see `edge_prompt_export.conditioning.virtual_layers.fold`.

    Args:
        module: A module that takes deep prompts.
    """

    def __init__(self, module: ConditionedModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, deep_prompt: Tensor) -> Tensor:
        """The prefix, with a batch of 1, equivalent to `deep_prompt [num_layers, num_virtual_tokens, hidden_size]`."""
        return self.module.as_input("deep", deep_prompt)["prefix"]

    def trace_inputs(self) -> Tensors:
        """Example input for a tracer, with a length that is not taken for a constant."""
        layers, _, hidden_size = (length or _TRACE_VIRTUAL_TOKENS for length in self.module.kinds["deep"])
        return {FOLD_INPUTS[0]: torch.zeros(layers, _TRACE_VIRTUAL_TOKENS, hidden_size)}

    def dynamic_axes(self) -> dict[str, dict[int, str]]:
        """The names of the dynamic axes: the number of virtual tokens."""
        return {FOLD_INPUTS[0]: {1: "num_virtual_tokens"}}
