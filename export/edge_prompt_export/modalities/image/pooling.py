"""Pool an image's token vectors into one feature vector."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor
from transformers import PreTrainedModel

from edge_prompt.base.errors import BackboneError

_CLASS_TOKENS = ("cls_token", "class_embedding", "class_token")
_DISTILLATION_TOKEN = "distillation_token"
_POOLED_BY_THEIR_AUTHORS = ("clip_vision_model", "clip", "beit", "data2vec-vision")
"""Networks with a class token whose last hidden state is not yet normalised; their own pooler normalises it."""


class PoolingInput(NamedTuple):
    """The input of the pooling.

    Attributes:
        hidden: The last hidden state, `[batch, tokens, width]`, or `[batch, width, rows, columns]` of convolutions.
        pooler: The output of the network's own pooler, `[batch, width]`, or None if it has none.
        model: The network.
    """

    hidden: Tensor
    pooler: Tensor | None
    model: PreTrainedModel


def cls_pooling(pooled: PoolingInput) -> Tensor:
    """The vector of the class token, `[batch, width]`."""
    return pooled.hidden[:, 0]


def mean_pooling(pooled: PoolingInput) -> Tensor:
    """The mean over all patches, `[batch, width]`, without class, register and detection tokens."""
    if pooled.hidden.ndim == 4:
        return pooled.hidden.mean((2, 3))
    config = pooled.model.config
    first = len(_own_tokens(pooled.model)) + int(getattr(config, "num_register_tokens", 0) or 0)
    last = pooled.hidden.shape[1] - int(getattr(config, "num_detection_tokens", 0) or 0)
    return pooled.hidden[:, first:last].mean(1)


def pooler_pooling(pooled: PoolingInput) -> Tensor:
    """The output of the network's own pooler, `[batch, width]`."""
    if pooled.pooler is None:
        raise _refusal("pooler", pooled)
    return pooled.pooler.flatten(1)


IMAGE_POOLINGS: dict[str, Callable[[PoolingInput], Tensor]] = {
    "cls": cls_pooling,
    "mean": mean_pooling,
    "pooler": pooler_pooling,
}


def has_class_token(pooled: PoolingInput) -> bool:
    """Whether the first vector is that of a class token."""
    return pooled.hidden.ndim == 3 and any(name in _CLASS_TOKENS for name in _own_tokens(pooled.model))


def default_pooling(pooled: PoolingInput) -> str:
    """The pooling that suits the network: its class token, else its own pooler, else the mean."""
    if has_class_token(pooled) and pooled.model.config.model_type not in _POOLED_BY_THEIR_AUTHORS:
        return "cls"
    return "mean" if pooled.pooler is None else "pooler"


def require_pooling(pooling: str, pooled: PoolingInput) -> None:
    """Refuse a pooling that the network does not support.

    Raises:
        BackboneError: The network has no class token, or no pooler.
    """
    if not _possible(pooled)[pooling]:
        raise _refusal(pooling, pooled)


def _possible(pooled: PoolingInput) -> dict[str, bool]:
    """Whether a network supports each pooling."""
    return {"cls": has_class_token(pooled), "mean": True, "pooler": pooled.pooler is not None}


def _refusal(pooling: str, pooled: PoolingInput) -> BackboneError:
    lacking = {"cls": "class token", "pooler": "pooler"}[pooling]
    return BackboneError(
        found=f"pooling by {pooling!r} of {type(pooled.model).__name__}, which has no {lacking}",
        wanted=f"one of {', '.join(name for name, fits in _possible(pooled).items() if fits)}",
        remedy="choose one of them (--pooling), or leave the option out",
    )


def _own_tokens(model: PreTrainedModel) -> list[str]:
    """The names of the special tokens (class, distillation) that the network puts before the patches."""
    names = {name.rpartition(".")[2] for name, _ in model.named_parameters()}
    return sorted(names & {*_CLASS_TOKENS, _DISTILLATION_TOKEN})
