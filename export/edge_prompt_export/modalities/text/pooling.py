"""How token vectors become one feature vector.

`mean` and `cls` look at real tokens only. `first` and `pooler` give what a network's own head reads, the first
position, whatever stands there. Under a soft prompt that is the first virtual token; heads that PEFT trained read it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from edge_prompt_export.conditioning.virtual_tokens import JoinedSequence, take_slots


def mean_pooling(hidden: Tensor, joined: JoinedSequence) -> Tensor:
    """The mean over real tokens (Reimers & Gurevych 2019), `[batch, width]` of `hidden [batch, slots, width]`."""
    weights = joined.is_token.to(hidden.dtype)[:, None]
    return torch.bmm(weights, hidden)[:, 0] / weights.sum(2).clamp(min=1.0)


def cls_pooling(hidden: Tensor, joined: JoinedSequence) -> Tensor:
    """The vector of the first real token, `[batch, width]` of `hidden [batch, slots, width]`."""
    return take_slots(hidden, joined.token_slots[:, :1])[:, 0]


def first_pooling(hidden: Tensor, _joined: JoinedSequence) -> Tensor:
    """The vector of the first position, `[batch, width]` of `hidden [batch, slots, width]`."""
    return hidden[:, 0]


POOLER = "pooler"
"""The network's own pooler (BERT's dense layer and tanh over the first position): the network itself gives it."""

FROM_TOKENS: dict[str, Callable[[Tensor, JoinedSequence], Tensor]] = {
    "mean": mean_pooling,
    "cls": cls_pooling,
    "first": first_pooling,
}
"""The poolings of token vectors."""

POOLINGS = (*FROM_TOKENS, POOLER)
"""All poolings of texts."""
