"""How a prefix enters a frozen network: one attention function for every architecture that dispatches its attention.

transformers dispatches attention through `AttentionInterface`. The function registered here prepends the prefix of the
current layer to that layer's keys and values (Li & Liang 2021, https://arxiv.org/abs/2101.00190). It works for any
architecture. Layers are numbered by the order of their calls within one forward pass, not by module, because ALBERT
shares one module between all its layers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from edge_prompt.base.errors import UnsupportedArchitectureError
from edge_prompt_export.conditioning.grouped_attention import attend, repeat_heads

ATTENTION_NAME = "edge_prompt"
"""The name for `model.set_attn_implementation` if sequences are padded."""

UNMASKED_ATTENTION_NAME = "edge_prompt_unmasked"
"""The name for inputs without padding, such as images: without a mask, the engines use their fastest attention."""

MASKED_BIAS = -65504.0
"""Added to masked scores. It is finite (float16's minimum), so that fully masked rows stay finite: a padding row of
NaN would spread to its neighbours, since 0 x NaN is NaN."""

_UNHANDLED_ARGUMENTS = ("softcap", "s_aux", "head_mask")
"""Arguments of the interface that change the result and that `prefix_attention` does not support."""


@dataclass
class PrefixPass:
    """The state that one conditioned forward pass shares between its attention calls.

    Attributes:
        prefix: `[num_layers, 2, batch|1, num_kv_heads, prefix_length, head_dim]`, or None to only count the layers.
        prefix_mask: `[batch, prefix_length]` bool, False where a row's prefix is padding.
        widens: Whether the model's own bias (BEiT's relative positions) must be padded to cover the prefix or the
            prepended virtual tokens.
        layer_shapes: `(num_kv_heads, head_dim)` of every attention call so far.
        modules: The module that made each call.
        batches: The batch size of each call; with windowed attention it exceeds that of the request.
    """

    prefix: Tensor | None = None
    prefix_mask: Tensor | None = None
    widens: bool = False
    layer_shapes: list[tuple[int, int]] = field(default_factory=list)
    modules: list[nn.Module] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    _biases: list[tuple[Tensor | None, Tensor]] = field(default_factory=list)

    def keys_and_values(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Prepend this layer's prefix to `key` and `value`, `[batch, num_kv_heads, sequence, head_dim]` each."""
        layer = len(self.layer_shapes)
        self.layer_shapes.append((key.shape[1], key.shape[-1]))
        self.batches.append(key.shape[0])
        if self.prefix is None:
            return key, value
        rows = rows_of(self.prefix.shape[2], key)
        prefix = self.prefix[layer].index_select(1, rows).to(key.dtype)
        # only OpenVINO graphs are traced; OpenVINO fuses a transposition into attention only if they are adjacent
        if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
            prefix_key, prefix_value = prefix.transpose(2, 3).unbind(0)
            key, value = key.transpose(1, 2), value.transpose(1, 2)
            return torch.cat([prefix_key, key], 1).transpose(1, 2), torch.cat([prefix_value, value], 1).transpose(1, 2)
        prefix_key, prefix_value = prefix.unbind(0)
        return torch.cat([prefix_key, key], 2), torch.cat([prefix_value, value], 2)

    def bias(self, attention_mask: Tensor | None, query: Tensor, key: Tensor) -> Tensor | None:
        """The additive mask over prefix and sequence; computed once for each mask that the model uses."""
        for mask, made in self._biases:
            if mask is attention_mask:
                return made
        bias = None if attention_mask is None else _additive(attention_mask, key.dtype)
        if self.prefix is not None and self.prefix_mask is not None:
            prefix_bias = _additive(self.prefix_mask[:, None, None, :], key.dtype)
            if bias is None:
                bias = key.new_zeros(1, 1, 1, 1).expand(key.shape[0], 1, 1, key.shape[2] - self.prefix.shape[4])
            bias = torch.cat([prefix_bias.expand(-1, bias.shape[1], bias.shape[2], -1), bias], -1)
        elif bias is not None and self.widens:  # with zeros: the model's bias does not apply to virtual tokens
            bias = F.pad(bias, (key.shape[2] - bias.shape[3], 0, query.shape[2] - bias.shape[2], 0))
        if bias is not None:
            self._biases.append((attention_mask, bias))
        return bias


_CURRENT: ContextVar[PrefixPass | None] = ContextVar("edge_prompt_prefix_pass", default=None)


@dataclass
class Capture:
    """A store for the keys and values of attention calls.

    Attributes:
        layers: `[2, batch, num_kv_heads, sequence, head_dim]` of each call.
        attends: Whether attention is also computed; if not, its output is meaningless.
    """

    attends: bool
    layers: list[Tensor] = field(default_factory=list)


_CAPTURE: ContextVar[Capture | None] = ContextVar("edge_prompt_capture", default=None)


@contextmanager
def capture_keys_and_values(*, attends: bool = True) -> Iterator[list[Tensor]]:
    """Capture each layer's own keys and values, `[2, batch, num_kv_heads, sequence, head_dim]`, in this context."""
    capture = Capture(attends)
    token = _CAPTURE.set(capture)
    try:
        yield capture.layers
    finally:
        _CAPTURE.reset(token)


@contextmanager
def prefix_pass(
    prefix: Tensor | None, prefix_mask: Tensor | None = None, *, widens: bool = False
) -> Iterator[PrefixPass]:
    """Condition every forward pass in this context on `prefix`; yields the `PrefixPass`, which records the calls."""
    current = PrefixPass(prefix, prefix_mask, widens)
    token = _CURRENT.set(current)
    try:
        yield current
    finally:
        _CURRENT.reset(token)


def rows_of(batch_or_one: int, like: Tensor) -> Tensor:
    """Row indices `[batch]` that broadcast a batch of 1 to the batch of `like` and leave a full batch unchanged.

    `min(arange(batch), rows - 1)` covers both cases without a branch, so one traced graph supports both; `expand` would
    fix one of them.
    """
    return torch.arange(like.shape[0], device=like.device).clamp(max=batch_or_one - 1)


def prefix_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    position_bias: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Scaled dot-product attention over the prefix and the sequence, with the signature of `AttentionInterface`.

    Args:
        module: The calling attention module; the layer is determined by the order of calls.
        query: `[batch, num_heads, sequence, head_dim]`.
        key: `[batch, num_kv_heads, sequence, head_dim]`.
        value: `[batch, num_kv_heads, sequence, head_dim]`.
        attention_mask: Boolean (True attends) or additive, `[batch, 1|num_heads, 1|sequence, sequence]`, or None.
        scaling: Factor on the scores; None means `head_dim ** -0.5`.
        dropout: Dropout on the attention weights during training.
        position_bias: Added to the scores (T5's relative positions), `[1|batch, num_heads, sequence, sequence]`.
        **kwargs: Further arguments of the architecture; refused if they would change the result.

    Returns:
        `[batch, sequence, num_heads, head_dim]`, and None for the attention weights.

    Raises:
        UnsupportedArchitectureError: The architecture passes an argument that this function does not support.
    """
    for name in _UNHANDLED_ARGUMENTS:
        if kwargs.get(name) is not None:
            raise UnsupportedArchitectureError(
                found=f"{type(module).__name__} passes {name!r} to its attention",
                wanted="plain attention with scores, a mask and a softmax",
                remedy="use a soft prompt (--kind soft) or another backbone",
            )
    if key.shape[-1] != value.shape[-1]:
        raise UnsupportedArchitectureError(
            found=f"{type(module).__name__} has keys of {key.shape[-1]} numbers and values of {value.shape[-1]}",
            wanted="keys and values of the same size, as in a prefix",
            remedy="use a soft prompt (--kind soft) or another backbone",
        )
    if (capture := _CAPTURE.get()) is not None:
        capture.layers.append(torch.stack([key, value]))
        if not capture.attends:
            return query.transpose(1, 2).contiguous(), None
    current = _CURRENT.get() or PrefixPass()
    current.modules.append(module)
    length = key.shape[2]
    key, value = current.keys_and_values(key, value)
    bias = current.bias(attention_mask, query, key)
    if position_bias is not None:
        position_bias = F.pad(position_bias, (key.shape[2] - length, 0))
        bias = position_bias if bias is None else bias + position_bias
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = repeat_heads(key, groups), repeat_heads(value, groups)
    out = attend(query, key, value, bias=bias, dropout=dropout, scaling=scaling)
    return out.transpose(1, 2).contiguous(), None


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert a boolean mask (True attends) to an additive one; clamp an additive mask to finite values."""
    if mask.dtype == torch.bool:
        return torch.where(mask, 0.0, MASKED_BIAS).to(dtype)
    return mask.to(dtype).clamp(min=MASKED_BIAS)


def _full_mask(*args: Any, **kwargs: Any) -> Tensor:
    """The boolean mask of transformers, without the shortcuts that omit it.

    An attention implementation without a mask function gets no mask at all, so padding would be attended to. The
    shortcut "no padding, no mask" depends on the data, which a traced graph must not do.
    """
    mask: Tensor = sdpa_mask(*args, **kwargs | {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False})
    return mask


AttentionInterface.register(ATTENTION_NAME, prefix_attention)
AttentionInterface.register(UNMASKED_ATTENTION_NAME, prefix_attention)
AttentionMaskInterface.register(ATTENTION_NAME, _full_mask)
