"""How a soft prompt enters a frozen network: virtual tokens are inserted before the embedded tokens.

Every row is laid out as `[its virtual tokens, its tokens, padding]` without gaps, whatever the lengths of the other
rows. Positions, relative distances, and heads that read the first slot are therefore the same as for that row alone
(Lester et al. 2021, https://arxiv.org/abs/2104.08691; PEFT uses the same layout).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from edge_prompt_export.conditioning.attention import rows_of


@dataclass(frozen=True)
class JoinedSequence:
    """A batch of virtual tokens and tokens joined into one sequence per row.

    Attributes:
        embeddings: `[batch, slots, width]`, where slots = virtual tokens + tokens.
        mask: `[batch, slots]` int64, 1 where a slot is attended to.
        token_slots: `[batch, tokens]`, the slot of each real token.
        is_token: `[batch, slots]` bool, False for virtual tokens and padding.
    """

    embeddings: Tensor
    mask: Tensor
    token_slots: Tensor
    is_token: Tensor


def join(token_embeddings: Tensor, token_mask: Tensor, soft_prompt: Tensor, soft_mask: Tensor) -> JoinedSequence:
    """Join virtual tokens and tokens, row by row and without gaps.

    Args:
        token_embeddings: `[batch, tokens, width]`.
        token_mask: `[batch, tokens]`, 1 for real tokens.
        soft_prompt: `[batch|1, virtual_tokens, width]`; a row's own virtual tokens come first, padding after.
        soft_mask: `[batch, virtual_tokens]`, 1 for a row's own virtual tokens.
    """
    batch, tokens, width = token_embeddings.shape
    virtual_tokens = soft_prompt.shape[1]
    soft_rows = rows_of(soft_prompt.shape[0], token_embeddings)[:, None]
    lengths = soft_mask.sum(1, keepdim=True)
    slots = torch.arange(virtual_tokens + tokens, device=token_embeddings.device)[None]
    is_virtual = slots < lengths
    token_index = (slots - lengths).clamp(0, tokens - 1)
    rows = torch.arange(batch, device=token_embeddings.device)[:, None]
    is_token = ~is_virtual & (slots < lengths + tokens) & (token_mask.gather(1, token_index) > 0)
    # one gather over the rows of all sources broadcasts, joins and closes gaps; padding is a row of zeros, which is
    # what networks that mix neighbouring embeddings (MobileBERT) use beyond the end of a sequence
    soft_source = soft_prompt.reshape(-1, width).to(token_embeddings.dtype)
    token_source = token_embeddings.reshape(-1, width)
    sources = torch.cat([token_embeddings.new_zeros(1, width), soft_source, token_source])
    first_token = 1 + soft_prompt.shape[0] * virtual_tokens
    index = torch.where(is_token, first_token + rows * tokens + token_index, 0)
    index = torch.where(is_virtual, 1 + soft_rows * virtual_tokens + slots, index)
    embeddings = sources.index_select(0, index.reshape(-1)).reshape(batch, virtual_tokens + tokens, width)
    token_slots = lengths + torch.arange(tokens, device=token_embeddings.device)[None]
    return JoinedSequence(embeddings, (is_virtual | is_token).long(), token_slots, is_token)


def take_slots(hidden: Tensor, slots: Tensor) -> Tensor:
    """The vectors `[batch, n, width]` at `slots [batch, n]` of `hidden [batch, slots, width]`."""
    batch, length, width = hidden.shape
    rows = torch.arange(batch, device=hidden.device)[:, None] * length
    return hidden.reshape(-1, width).index_select(0, (rows + slots).reshape(-1)).reshape(batch, -1, width)
