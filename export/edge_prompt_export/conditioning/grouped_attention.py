"""The arithmetic of attention, where torch's fused one does not do: gradients, ONNX, a bound on the scores."""

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

    Fused where it can be. In single steps where scores are bounded, and where gradients flow: on a CPU in bf16,
    torch's fused attention takes three times as long backwards. In single steps in ONNX, too: the exporter takes the
    fused one apart into more of them, which copy keys to transpose and to scale; ONNX Runtime needs no copy of these.

    Args:
        query: `[batch, num_heads, sequence, head_dim]`.
        key: `[batch, num_heads, length, head_dim]`.
        value: `[batch, num_heads, length, head_dim]`.
        bias: Added to the scores, broadcast to `[batch, num_heads, sequence, length]`, or None.
        dropout: Dropout on the attention weights.
        scaling: Factor on the scores; None is `head_dim ** -0.5`.
        softcap: Bound of the scores, before the bias is added (Gemma 2), or None.

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
    """Grouped-query attention: `attend` with fewer heads in keys and values than in the query.

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
    """Keys or values `[batch, num_kv_heads, length, head_dim]`, each head `groups` times, for grouped-query attention.

    Expanded and reshaped: the form that OpenVINO recognises.
    """
    batch, num_heads, length, head_dim = heads.shape
    expanded = heads[:, :, None].expand(batch, num_heads, groups, length, head_dim)
    return expanded.reshape(batch, num_heads * groups, length, head_dim)
