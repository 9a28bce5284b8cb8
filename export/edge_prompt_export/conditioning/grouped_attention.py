"""Attention for the cases that torch's fused attention does not suit: gradients, ONNX export, and soft caps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    bias: Tensor | None,
    dropout: float,
    scaling: float | None,
    softcap: float | None = None,
) -> Tensor:
    """Scaled dot-product attention.

    Torch's fused attention is used where possible. Single operations are used in three cases: with a soft cap, which
    fused attention does not support; with gradients, since the backward pass of fused attention takes three times as
    long in bf16 on a CPU; and for ONNX export, since the exporter decomposes fused attention into more operations,
    which copy the keys to transpose and scale them.

    Args:
        query: `[batch, num_heads, sequence, head_dim]`.
        key: `[batch, num_heads, length, head_dim]`.
        value: `[batch, num_heads, length, head_dim]`.
        bias: Added to the scores, broadcast to `[batch, num_heads, sequence, length]`, or None.
        dropout: Dropout on the attention weights.
        scaling: Factor on the scores; None means `head_dim ** -0.5`.
        softcap: Soft cap on the scores before the bias is added (Gemma 2), or None.

    Returns:
        `[batch, num_heads, sequence, head_dim]`.
    """
    in_steps = key.requires_grad or query.requires_grad or torch.onnx.is_in_onnx_export()
    if softcap is None and not in_steps:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout, scale=scaling)
    scores = (query * (query.shape[-1] ** -0.5 if scaling is None else scaling)) @ key.transpose(-1, -2)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    if bias is not None:
        scores = scores + bias
    weights = scores.softmax(-1)
    return (F.dropout(weights, dropout) if dropout else weights) @ value


def attend_grouped(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    bias: Tensor,
    dropout: float,
    scaling: float | None,
    softcap: float | None = None,
) -> Tensor:
    """Grouped-query attention: `attend` for keys and values with fewer heads than the query.

    Args:
        query: `[batch, num_heads, sequence, head_dim]`.
        key: `[batch, num_kv_heads, length, head_dim]`.
        value: `[batch, num_kv_heads, length, head_dim]`.
        bias: `[batch, 1, sequence, length]`.
        dropout: See `attend`.
        scaling: See `attend`.
        softcap: See `attend`.

    Returns:
        `[batch, num_heads, sequence, head_dim]`.
    """
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = repeat_heads(key, groups), repeat_heads(value, groups)
    return attend(query, key, value, bias=bias, dropout=dropout, scaling=scaling, softcap=softcap)


def repeat_heads(heads: Tensor, groups: int) -> Tensor:
    """Repeat each head of keys or values `[batch, num_kv_heads, length, head_dim]` `groups` times.

    The heads are expanded and reshaped, which is the form that OpenVINO recognises.
    """
    batch, num_heads, length, head_dim = heads.shape
    expanded = heads[:, :, None].expand(batch, num_heads, groups, length, head_dim)
    return expanded.reshape(batch, num_heads * groups, length, head_dim)
