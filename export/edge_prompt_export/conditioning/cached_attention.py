"""How the cache of a causal language model enters a frozen network: one attention function for every architecture.

A prompt of a causal network consists of keys and values that later tokens attend to and that do not depend on later
tokens. It therefore enters like the ordinary cache of past tokens (`past_key_values` in transformers). The function
registered here concatenates the past of the current layer with its new keys and values and returns both as the
present. It also creates the masks, because only this function knows the past: causal masks by slot, sliding windows by
position, and padding by the attention mask.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface

from edge_prompt.base.errors import UnsupportedArchitectureError
from edge_prompt_export.conditioning.attention import MASKED_BIAS
from edge_prompt_export.conditioning.grouped_attention import attend_grouped
from edge_prompt_export.conditioning.onnx_attention import attend_in_onnx

CACHED_ATTENTION_NAME = "edge_prompt_cached"
"""The name for `model.set_attn_implementation`. No mask function is registered for it, so transformers makes none."""

_UNHANDLED_ARGUMENTS = ("s_aux", "head_mask", "position_bias")
"""Arguments of the interface that change the result and that `cached_attention` does not support."""

KeyValue = tuple[Tensor, Tensor]
"""Keys and values of a layer, `[batch, num_kv_heads, length, head_dim]` each."""


@dataclass
class CachePass:
    """The state that one forward pass shares between its attention calls.

    Attributes:
        past: Past keys and values of each layer; empty to only count the layers.
        attention_mask: `[batch, past + new]`, 1 for real tokens and 0 for padding; None means no padding.
        present: Keys and values, past and new, of each layer so far.
        layer_shapes: `(num_kv_heads, head_dim)` of every attention call so far.
        limits: Sliding window and soft cap of every attention call so far, or None.
    """

    past: Sequence[KeyValue] = ()
    attention_mask: Tensor | None = None
    present: list[KeyValue] = field(default_factory=list)
    layer_shapes: list[tuple[int, int]] = field(default_factory=list)
    limits: list[tuple[int | None, float | None]] = field(default_factory=list)
    _biases: dict[int | None, Tensor] = field(default_factory=dict)

    def next_layer(self, key: Tensor, sliding_window: int | None, softcap: float | None) -> KeyValue | None:
        """Record the next layer, given its new keys, and return its past; None if there is no past."""
        layer = len(self.layer_shapes)
        self.layer_shapes.append((key.shape[1], key.shape[-1]))
        self.limits.append((sliding_window, softcap))
        return self.past[layer] if self.past else None

    def bias(self, key: Tensor, total: int, sliding_window: int | None) -> Tensor:
        """The additive mask `[batch, 1, new, total]` for new keys; computed once for each sliding window in use."""
        made = self._biases.get(sliding_window)
        if made is None:
            made = self._biases[sliding_window] = self._bias(key, total, sliding_window)
        return made

    def _bias(self, key: Tensor, total: int, sliding_window: int | None) -> Tensor:
        new = key.shape[2]
        slots = torch.arange(total, device=key.device)
        seen = (slots[None, :] <= slots[total - new :, None])[None]
        if self.attention_mask is not None:
            real = self.attention_mask > 0
            seen = seen & real[:, None, :]
        if sliding_window is not None:  # by position, since there may be padding between a row's prompt and its tokens
            mask = self.attention_mask if self.attention_mask is not None else torch.ones_like(slots)[None]
            positions = mask.cumsum(1)
            seen = seen & (positions[:, total - new :, None] - positions[:, None, :] < sliding_window)
        return torch.where(seen[:, None], 0.0, MASKED_BIAS).to(key.dtype)


_CURRENT: ContextVar[CachePass | None] = ContextVar("edge_prompt_cache_pass", default=None)


@contextmanager
def cache_pass(past: Sequence[KeyValue], attention_mask: Tensor | None) -> Iterator[CachePass]:
    """Run one forward pass in this context after `past`; yields the `CachePass`, which then holds the `present`."""
    current = CachePass(past, attention_mask)
    token = _CURRENT.set(current)
    try:
        yield current
    finally:
        _CURRENT.reset(token)


def cached_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Causal attention over the past and the new tokens, with the signature of `AttentionInterface`.

    Args:
        module: The calling attention module; the layer is determined by the order of calls.
        query: `[batch, num_heads, new, head_dim]`.
        key: `[batch, num_kv_heads, new, head_dim]`.
        value: `[batch, num_kv_heads, new, head_dim]`.
        attention_mask: None, since no mask function is registered.
        scaling: Factor on the scores; None means `head_dim ** -0.5`.
        dropout: Dropout on the attention weights during training.
        sliding_window: Number of positions that a token attends to, itself included; None means all.
        softcap: Soft cap on the scores (Gemma 2), or None.
        **kwargs: Further arguments of the architecture; refused if they would change the result.

    Returns:
        `[batch, new, num_heads, head_dim]`, and None for the attention weights.

    Raises:
        UnsupportedArchitectureError: The architecture passes an argument that this function does not support.
    """
    _require_handled(module, key, value, kwargs | {"its own mask": attention_mask})
    current = _CURRENT.get() or CachePass()
    past = current.next_layer(key, sliding_window, softcap)
    total = key.shape[2] + (past[0].shape[2] if past else 0)
    bias = current.bias(key, total, sliding_window)
    if past and torch.onnx.is_in_onnx_export():
        limits: dict[str, Any] = {"scaling": scaling, "sliding_window": sliding_window, "softcap": softcap}
        out, key, value = attend_in_onnx(query, key, value, past, bias, **limits)
    else:
        if past:
            key, value = torch.cat([past[0].to(key.dtype), key], 2), torch.cat([past[1].to(value.dtype), value], 2)
        out = attend_grouped(query, key, value, bias=bias, dropout=dropout, scaling=scaling, softcap=softcap)
    current.present.append((key, value))
    return out.transpose(1, 2).contiguous(), None


def _require_handled(module: nn.Module, key: Tensor, value: Tensor, arguments: dict[str, Any]) -> None:
    for name in (*_UNHANDLED_ARGUMENTS, "its own mask"):
        if arguments.get(name) is not None:
            raise UnsupportedArchitectureError(
                found=f"{type(module).__name__} passes {name} to its attention",
                wanted="plain causal attention with scores, optionally a sliding window, and a softmax",
                remedy="export another backbone",
            )
    if key.shape[-1] != value.shape[-1]:
        raise UnsupportedArchitectureError(
            found=f"{type(module).__name__} has keys of {key.shape[-1]} numbers and values of {value.shape[-1]}",
            wanted="keys and values of the same size",
            remedy="export another backbone",
        )


AttentionInterface.register(CACHED_ATTENTION_NAME, cached_attention)
