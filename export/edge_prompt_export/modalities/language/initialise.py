"""Initialise a prompt of a language model from real text.

A soft prompt is initialised with embeddings, and a prefix with keys and values. The first token of a prefix stays
fixed: later tokens direct much of their attention to the first token (an attention sink), and tuning is more stable
with the first token frozen (Eyuboglu et al. 2025, https://arxiv.org/abs/2506.06266).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from edge_prompt_export.modalities.language.network import ConditionedCausalLM
from edge_prompt_export.training.settings import TuneSettings


def prompt_of_text(kind: str, module: ConditionedCausalLM, ids: list[int]) -> Tensor:
    """The prompt initialised from `ids`, with the axes of a prompt file."""
    with torch.no_grad():
        return _INITIAL[kind](module, torch.tensor([ids])).clone()


def first_token_mask(prompt: Tensor, settings: TuneSettings) -> Tensor | None:
    """A mask that fixes the first token of a prefix: 1 for values that are tuned, 0 for fixed ones; None tunes all."""
    if settings.kind != "prefix":
        return None
    mask = torch.ones_like(prompt)
    mask[..., 0, :] = 0
    return mask


def _soft(module: ConditionedCausalLM, ids: Tensor) -> Tensor:
    embedded: Tensor = module.embedding(ids)
    return embedded[0]


def _prefix(module: ConditionedCausalLM, ids: Tensor) -> Tensor:
    request = module.graph_inputs({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, {})
    _, *cache = module(**request | {"logits_to_keep": torch.zeros(0, dtype=torch.long)})
    stacked = torch.stack(cache)[:, 0]
    return stacked.reshape(-1, 2, *stacked.shape[1:])


_INITIAL: dict[str, Callable[[ConditionedCausalLM, Tensor], Tensor]] = {"soft": _soft, "prefix": _prefix}
