"""What every family provides: a frozen network whose prompts are arguments, and what exporting it needs to know.

A family says what is truly different: what a request is made of, where a prompt enters, which output is the feature.
Everything after it (graphs, parity, manifest, tuning) knows only this.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from edge_prompt.formats.kinds import KindShape
from edge_prompt.formats.manifest import PROMPT_INPUTS
from edge_prompt.formats.preprocessing import Preprocessing

Tensors = dict[str, Tensor]
"""Tensors by the name of the graph's input or output."""


PARITY_VIRTUAL_TOKENS = (1, 6)
"""Lengths of the prompts a bundle is compared under; length 0 is the base model."""

_TRACE_VIRTUAL_TOKENS = {"soft": 3, "prefix": 4, "pixel": 0}


class ConditionedModule(nn.Module, ABC):
    """A frozen network whose prompts are arguments: the module that is tuned, and the one that is exported.

    Attributes:
        model: The network.
        task: What it does, in transformers' terms.
        input_names: The graph's inputs, in order: those of a request, then those of prompts.
        output_names: The graph's outputs, in order.
        kinds: The kinds of prompt it takes, and their shapes.
        refused_kinds: Why it does not take a kind that its family could, by kind.
        cache_names: The inputs that hold what came before; empty for networks that keep nothing.
    """

    model: nn.Module
    task: str
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    kinds: dict[str, KindShape]
    refused_kinds: dict[str, str]
    layer_shapes: list[tuple[int, int]]
    layer_limits: list[tuple[int | None, float | None]]
    cache_names: tuple[str, ...] = ()
    _empty_prompts: Tensors | None = None

    @property
    @abstractmethod
    def feature_size(self) -> int:
        """Width of the feature that heads read."""

    @abstractmethod
    def dynamic_axes(self) -> dict[str, dict[int, str]]:
        """The axes of each input whose length is the request's or the prompt's, with their names."""

    @abstractmethod
    def trace_inputs(self) -> Tensors:
        """All inputs, in sizes that a tracer can tell apart and takes for no constants: none is 0 or 1."""

    @abstractmethod
    def parity_requests(self, preprocessing: Preprocessing) -> list[Tensors]:
        """Requests of several sizes (without prompts) at which a bundle is compared with the network."""

    def example_prompt(self, kind: str, virtual_tokens: int, seed: int) -> Tensor:
        """A random prompt with the axes of a prompt file, as large as numbers in this network, so that it counts."""
        shape = [virtual_tokens if length is None else length for length in self.kinds[kind]]
        return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

    def under(self, request: Tensors, prompts: Mapping[str, Tensor]) -> Tensors:
        """The graph's inputs for `request` under prompts, which are given with the graph's axes; the others are empty.

        Args:
            request: The inputs of a request.
            prompts: Prompts by the name of their input, with a leading batch or 1.
        """
        inputs = {**request, **self.empty_prompts(), **prompts}
        return {name: inputs[name] for name in self.input_names}

    def example_prompts(self) -> Tensors:
        """A prompt for every prompt input, in lengths that a tracer can tell apart, as the graph takes them."""
        prompts: Tensors = {}
        for kind, length in _TRACE_VIRTUAL_TOKENS.items():
            if kind in self.kinds:
                prompts |= self.as_input(kind, self.example_prompt(kind, length, 0))
        return prompts

    @abstractmethod
    def untouched(self, request: Tensors) -> Tensors:
        """What the network gives as its authors wrote it, by output name."""

    def alone(self, request: Tensors, row: int) -> Tensors:
        """The request of one row by itself, without what other rows made necessary."""
        return {name: tensor[row : row + 1] for name, tensor in request.items()}

    def valid(self, outputs: Mapping[str, Any], request: Tensors) -> dict[str, Any]:  # noqa: ARG002 - for families that pad
        """The outputs where they mean something: what stands at padding is nobody's."""
        return dict(outputs)

    def empty_prompts(self) -> Tensors:
        """No prompt: every prompt input at length 0, a pixel prompt at zeros; made once."""
        if self._empty_prompts is None:
            empty: Tensors = {}
            for kind, as_input in AS_INPUT.items():
                if kind in self.kinds:
                    empty |= as_input(torch.zeros_like(self.example_prompt(kind, 0, 0)))
            self._empty_prompts = empty
        return self._empty_prompts

    def as_input(self, kind: str, array: Tensor) -> dict[str, Tensor]:
        """A prompt with the axes of its file as the graph takes it: its input's name, with a leading 1 as batch."""
        return AS_INPUT[kind](array)

    @torch.no_grad()
    def outputs_under(self, request: Tensors, kind: str, array: Tensor | None) -> Tensors:
        """The outputs by name for `request` under a prompt with the axes of its file; None is no prompt."""
        prompts = {} if array is None else self.as_input(kind, array)
        return dict(zip(self.output_names, self(**self.under(request, prompts)), strict=True))


AS_INPUT: dict[str, Callable[[Tensor], dict[str, Tensor]]] = {
    "soft": lambda array: {PROMPT_INPUTS["soft"]: array[None]},
    "prefix": lambda array: {PROMPT_INPUTS["prefix"]: array[:, :, None]},
    "pixel": lambda array: {PROMPT_INPUTS["pixel"]: array[None]},
}
"""From the axes of a file to those of the graph, for the kinds that enter it as they are."""


def name_of(module: nn.Module) -> str:
    """What a message calls a module: the class of the network in it."""
    conditioned = module if isinstance(module, ConditionedModule) else getattr(module, "module", module)
    return type(getattr(conditioned, "model", conditioned)).__name__
