"""How token vectors become one feature vector: over real tokens only, virtual tokens are never pooled."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from edge_prompt_export.virtual_tokens import JoinedSequence, take_slots


def mean_pooling(hidden: Tensor, joined: JoinedSequence) -> Tensor:
    """The mean over real tokens (Reimers & Gurevych 2019), `[batch, width]` of `hidden [batch, slots, width]`."""
    weights = joined.is_token.to(hidden.dtype)[:, None]
    return torch.bmm(weights, hidden)[:, 0] / weights.sum(2).clamp(min=1.0)


def cls_pooling(hidden: Tensor, joined: JoinedSequence) -> Tensor:
    """The vector of the first real token, `[batch, width]` of `hidden [batch, slots, width]`."""
    return take_slots(hidden, joined.token_slots[:, :1])[:, 0]


POOLINGS: dict[str, Callable[[Tensor, JoinedSequence], Tensor]] = {"mean": mean_pooling, "cls": cls_pooling}
