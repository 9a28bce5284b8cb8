"""How a soft prompt enters a frozen vision transformer: virtual tokens pass through its layers with its own tokens.

Each layer receives the sequence with the virtual tokens in front and returns the sequence without them. Everything
between and after the layers (added positions, intermediate feature maps, heads, pooling) therefore finds the class
token, the patches and the detection tokens at their usual places. Within a transformer layer the order of tokens does
not matter, so the front is equivalent to the place after the class token, where Visual Prompt Tuning (Jia et al. 2022,
https://arxiv.org/abs/2203.12119) inserts them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from edge_prompt_export.conditioning.attention import capture_keys_and_values, rows_of

LayerCall = tuple[tuple[Any, ...], dict[str, Any]]
"""The arguments of a layer's call, without the hidden states."""


@dataclass
class LayersPass:
    """The state that one forward pass carries from layer to layer.

    Attributes:
        tokens: `[batch|1, num_virtual_tokens, hidden_size]`, the virtual tokens before the first layer (VPT-shallow),
            or None.
        fresh_tokens: `[num_layers, num_virtual_tokens, hidden_size]`, the virtual tokens that replace them before each
            layer (VPT-deep as published, for which `fold` is the faster equivalent), or None.
        calls: The arguments of every layer's call so far.
        hidden_size: Width of the hidden states; 0 before the first layer.
        keeps: Whether to keep the hidden states before every layer.
        kept: The kept hidden states, `[batch, sequence, hidden_size]` each.
    """

    tokens: Tensor | None = None
    fresh_tokens: Tensor | None = None
    calls: list[LayerCall] = field(default_factory=list)
    hidden_size: int = 0
    keeps: bool = False
    kept: list[Tensor] = field(default_factory=list)
    _joined: Tensor | None = None
    _own: Tensor | None = None

    def enter(self, hidden: Tensor) -> Tensor:
        """The input of the layer: the virtual tokens, then `hidden [batch, sequence, hidden_size]`."""
        if self.fresh_tokens is not None:
            fresh = self.fresh_tokens[len(self.calls) - 1]
            return torch.cat([fresh.expand(hidden.shape[0], -1, -1), hidden], 1)
        if self.tokens is None:
            return hidden
        if self._joined is None:
            return torch.cat([self.tokens.index_select(0, rows_of(self.tokens.shape[0], hidden)), hidden], 1)
        if hidden is self._own:  # unchanged since the previous layer, so no split and concatenation is needed
            return self._joined
        return torch.cat([self._joined[:, : self.tokens.shape[1]], hidden], 1)

    def leave(self, hidden: Tensor) -> Tensor:
        """The sequence without the virtual tokens, which are stored for the next layer.

        Their number is always read from the prompt itself. If it were read from the sequence, it would depend on the
        outputs of layers, which is measurably slower on OpenVINO.
        """
        given = self.tokens if self.fresh_tokens is None else self.fresh_tokens
        if given is None:
            return hidden
        self._joined, self._own = hidden, hidden[:, given.shape[1] :]
        return self._own


_CURRENT: ContextVar[LayersPass | None] = ContextVar("edge_prompt_layers_pass", default=None)


@contextmanager
def layers_pass(
    tokens: Tensor | None = None, fresh_tokens: Tensor | None = None, *, keeps: bool = False
) -> Iterator[LayersPass]:
    """Run every forward pass in this context with these virtual tokens; yields the `LayersPass` with the calls."""
    current = LayersPass(tokens, fresh_tokens, keeps=keeps)
    token = _CURRENT.set(current)
    try:
        yield current
    finally:
        _CURRENT.reset(token)


def layers_of(model: nn.Module, attentions: Sequence[nn.Module]) -> list[nn.Module]:
    """The layers that contain `attentions`, in the order of their calls; each layer is an item of an `nn.ModuleList`.

    Returns:
        One layer per attention module, or an empty list if the network is not structured in this way.
    """
    names = {id(module): name for name, module in model.named_modules()}
    layers: list[nn.Module] = []
    for attention in attentions:
        path = names[id(attention)].split(".")
        lists = [
            length
            for length in range(len(path))
            if isinstance(model.get_submodule(".".join(path[:length])), nn.ModuleList)
        ]
        if not lists:
            return []
        layers.append(model.get_submodule(".".join(path[: lists[0] + 1])))
    return layers if len({id(layer) for layer in layers}) == len(layers) else []


def condition_layers(layers: Sequence[nn.Module]) -> list[Callable[..., Any]]:
    """Insert virtual tokens in each layer; outside of a `layers_pass`, the layers work as before.

    The method `forward` is replaced instead of hooked, so that other hooks (transformers records hidden states with
    hooks) see sequences without virtual tokens.

    Returns:
        The original forward of each layer.
    """
    originals = [layer.forward for layer in layers]
    for layer, original in zip(layers, originals, strict=True):
        layer.forward = _conditioned(original)
    return originals


def _conditioned(original: Callable[..., Any]) -> Callable[..., Any]:
    def forward(hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        current = _CURRENT.get()
        if current is None:
            return original(hidden_states, *args, **kwargs)
        current.calls.append((args, kwargs))
        current.hidden_size = hidden_states.shape[-1]
        if current.keeps:
            current.kept.append(hidden_states)
        output = original(current.enter(hidden_states), *args, **kwargs)
        if isinstance(output, tuple):
            return (current.leave(output[0]), *output[1:])
        return current.leave(output)

    return forward


def fold(originals: Sequence[Callable[..., Any]], calls: Sequence[LayerCall], deep_prompt: Tensor) -> Tensor:
    """Convert a deep prompt to the equivalent prefix.

    VPT-deep discards the outputs of virtual tokens at every layer. Only their keys and values matter, and these do not
    depend on the image. Each layer therefore runs once on its own virtual tokens, and its keys and values are captured.
    In an exported graph, everything that a layer computes after them is dead code.

    Args:
        originals: The original forward of each layer.
        calls: The arguments of each layer's call, without the hidden states.
        deep_prompt: `[num_layers, num_virtual_tokens, hidden_size]`.

    Returns:
        `[num_layers, 2, 1, num_kv_heads, num_virtual_tokens, head_dim]`.
    """
    with capture_keys_and_values(attends=False) as captured:
        for original, (args, kwargs), tokens in zip(originals, calls, deep_prompt.unbind(0), strict=True):
            original(tokens[None], *args, **_without_positions(kwargs))
    return torch.stack(captured)


def _without_positions(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a layer without the rotary positions of patches (DINOv3): virtual tokens have none."""
    rotary = arguments.get("position_embeddings")
    if rotary is None:
        return arguments
    return {**arguments, "position_embeddings": tuple(part[..., :0, :] for part in rotary)}
