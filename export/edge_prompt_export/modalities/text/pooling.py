"""Pool token vectors into one feature vector.

`mean` and `cls` use real tokens only. `first` and `pooler` use the first position, like a network's own head. With a
soft prompt, that position holds the first virtual token, which heads trained by PEFT read.
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
"""The network's own pooler (BERT's dense layer and tanh over the first position), computed by the network itself."""

FROM_TOKENS: dict[str, Callable[[Tensor, JoinedSequence], Tensor]] = {
    "mean": mean_pooling,
    "cls": cls_pooling,
    "first": first_pooling,
}
"""The poolings of token vectors."""

POOLINGS = (*FROM_TOKENS, POOLER)
"""All poolings of text encoders."""
