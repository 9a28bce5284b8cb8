"""The graph that folds: from a deep prompt to the prefix it amounts to, and nothing but what that needs."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from edge_prompt.formats.manifest import FOLD_INPUTS
from edge_prompt_export.backbone.conditioned_module import ConditionedModule, Tensors

_TRACE_VIRTUAL_TOKENS = 5


class GraphFiles(NamedTuple):
    """Files that were written; the first of each is the one to open.

    Attributes:
        model: Of the network.
        fold: Of the graph that folds; empty if there is none.
        fold_weights_file: The file with the weights of the graph that folds, where an engine must be told of it.
        others: For others than the engine, which share files with it.
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
        """The prefix that `deep_prompt [num_layers, num_virtual_tokens, hidden_size]` amounts to, with a batch of 1."""
        return self.module.as_input("deep", deep_prompt)["prefix"]

    def trace_inputs(self) -> Tensors:
        """The input, in a length that a tracer takes for no constant."""
        layers, _, hidden_size = (length or _TRACE_VIRTUAL_TOKENS for length in self.module.kinds["deep"])
        return {FOLD_INPUTS[0]: torch.zeros(layers, _TRACE_VIRTUAL_TOKENS, hidden_size)}

    def dynamic_axes(self) -> dict[str, dict[int, str]]:
        """The axes whose length is the prompt's own."""
        return {FOLD_INPUTS[0]: {1: "num_virtual_tokens"}}
