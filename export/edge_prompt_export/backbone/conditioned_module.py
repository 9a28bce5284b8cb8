"""The interface of all backbones: a frozen network that takes prompts as arguments, and what exporting it needs.

A subclass defines what differs between modalities: the inputs of a request, where a prompt enters, and which output is
the feature. All later steps (graphs, parity, manifest, tuning) use only this interface.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from edge_prompt.formats.kinds import PROMPT_INPUTS, KindShape

Tensors = dict[str, Tensor]
"""Tensors by the name of a graph input or output."""


PARITY_VIRTUAL_TOKENS = (1, 6)
"""Lengths of the prompts that parity checks use; length 0 is the base model."""

_TRACE_VIRTUAL_TOKENS = {"soft": 3, "prefix": 4, "pixel": 0}


class ConditionedModule(nn.Module, ABC):
    """A frozen network that takes prompts as arguments; the same module is tuned and exported.

    Attributes:
        model: The network.
        task: Its task, in transformers' terms.
        input_names: The graph's inputs, in order: those of a request, then the prompts.
        output_names: The graph's outputs, in order.
        kinds: The kinds of prompt that it takes, with their shapes.
        refused_kinds: By kind, why this network does not take a prompt that other networks of its modality take.
    """

    model: nn.Module
    task: str
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    kinds: dict[str, KindShape]
    refused_kinds: dict[str, str]
    layer_shapes: list[tuple[int, int]]
    _empty_prompts: Tensors | None = None

    @property
    @abstractmethod
    def feature_size(self) -> int:
        """Width of the feature that heads read."""

    @abstractmethod
    def dynamic_axes(self) -> dict[str, dict[int, str]]:
        """The names of the dynamic axes of each input: those whose length depends on the request or the prompt."""

    @abstractmethod
    def trace_inputs(self) -> Tensors:
        """Example inputs for a tracer. Dynamic axes have distinct lengths above 1, so none is taken for a constant."""

    def example_prompt(self, kind: str, virtual_tokens: int, seed: int) -> Tensor:
        """A random prompt with the axes of a prompt file, scaled like the network's own values."""
        shape = [virtual_tokens if length is None else length for length in self.kinds[kind]]
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    def graph_inputs(self, request: Tensors, prompts: Mapping[str, Tensor]) -> Tensors:
        """The graph's inputs for `request` with `prompts`; prompt inputs that are not given are empty.

        Args:
            request: The inputs of a request.
            prompts: Prompts by the name of their graph input, with the graph's axes and a batch axis of batch or 1.
        """
        inputs = {**request, **self.empty_prompts(), **prompts}
        return {name: inputs[name] for name in self.input_names}

    def example_prompts(self) -> Tensors:
        """An example prompt for every prompt input, with the graph's axes and distinct lengths for a tracer."""
        prompts: Tensors = {}
        for kind, length in _TRACE_VIRTUAL_TOKENS.items():
            if kind in self.kinds:
                prompts |= self.as_input(kind, self.example_prompt(kind, length, 0))
        return prompts

    @abstractmethod
    def original_outputs(self, request: Tensors) -> Tensors:
        """The outputs of the original, unmodified network, by name."""

    def single_row(self, request: Tensors, row: int) -> Tensors:
        """The request of a single row, without the padding that other rows of the batch required."""
        return {name: tensor[row : row + 1] for name, tensor in request.items()}

    def without_padding(self, outputs: Mapping[str, Any], request: Tensors) -> dict[str, Any]:  # noqa: ARG002 - for families that pad
        """The meaningful part of the outputs, without the values at padding positions."""
        return dict(outputs)

    def empty_prompts(self) -> Tensors:
        """Inputs for no prompt: length 0, or zeros for a pixel prompt. Created once and cached."""
        if self._empty_prompts is None:
            empty: Tensors = {}
            for kind, as_input in AS_INPUT.items():
                if kind in self.kinds:
                    empty |= as_input(torch.zeros_like(self.example_prompt(kind, 0, 0)))
            self._empty_prompts = empty
        return self._empty_prompts

    def as_input(self, kind: str, array: Tensor) -> dict[str, Tensor]:
        """Convert a prompt from the axes of its file to the graph's input, with a batch axis of 1."""
        return AS_INPUT[kind](array)

    @torch.no_grad()
    def prompted_outputs(self, request: Tensors, kind: str, array: Tensor | None) -> Tensors:
        """The outputs by name for `request` with a prompt that has the axes of its file; None means no prompt."""
        prompts = {} if array is None else self.as_input(kind, array)
        return dict(zip(self.output_names, self(**self.graph_inputs(request, prompts)), strict=True))


AS_INPUT: dict[str, Callable[[Tensor], dict[str, Tensor]]] = {
    "soft": lambda array: {PROMPT_INPUTS["soft"]: array[None]},
    "prefix": lambda array: {PROMPT_INPUTS["prefix"]: array[:, :, None]},
    "pixel": lambda array: {PROMPT_INPUTS["pixel"]: array[None]},
}
"""Conversions from the axes of a prompt file to those of the graph, for kinds that enter the graph unchanged."""


def name_of(module: nn.Module) -> str:
    """The name of a module in messages: the class name of the network inside it."""
    conditioned = module if isinstance(module, ConditionedModule) else getattr(module, "module", module)
    return type(getattr(conditioned, "model", conditioned)).__name__
