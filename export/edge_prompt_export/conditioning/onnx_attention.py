"""Attention over a cache in ONNX: a placeholder operation during export, which graph passes then rewrite.

See `edge_prompt_export.graphs.onnx.passes.attention` for the two forms that it is rewritten in.
"""

from __future__ import annotations

import torch
from torch import Tensor

DOMAIN = "edge_prompt"
OPERATOR = "CachedAttention"

_EVERYTHING = -1


def attend_in_onnx(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    past: tuple[Tensor, Tensor],
    bias: Tensor,
    *,
    scaling: float | None,
    sliding_window: int | None,
    softcap: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Attention over past and new tokens as one placeholder operation, which ONNX itself does not define.

    Args:
        query: `[batch, num_heads, new, head_dim]`.
        key: `[batch, num_kv_heads, new, head_dim]`.
        value: `[batch, num_kv_heads, new, head_dim]`.
        past: Past keys and values, `[batch, num_kv_heads, past, head_dim]` each.
        bias: `[batch, 1, new, past + new]`; the fused form does not read it.
        scaling: Factor on the scores; None means `head_dim ** -0.5`.
        sliding_window: Number of positions that a token attends to, itself included; None means all.
        softcap: Soft cap on the scores before the bias is added, or None.

    Returns:
        `[batch, num_heads, new, head_dim]`, and the keys and values, past and new.
    """
    batch, kv_heads, new, head_dim = key.shape
    present = (batch, kv_heads, past[0].shape[2] + new, head_dim)
    out, present_key, present_value = torch.onnx.ops.symbolic_multi_out(
        f"{DOMAIN}::{OPERATOR}",
        (query, key, value, *past, bias),
        {
            "num_heads": query.shape[1],
            "kv_num_heads": kv_heads,
            "head_dim": head_dim,
            "scale": float(head_dim**-0.5 if scaling is None else scaling),
            "softcap": float(softcap or 0),
            "local_window_size": sliding_window or _EVERYTHING,
        },
        dtypes=(query.dtype, key.dtype, value.dtype),
        shapes=(query.shape, present, present),
        version=1,
    )
    return out, present_key, present_value
