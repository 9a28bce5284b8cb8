"""Where a prompt of a language model starts: at what the network itself makes of real text.

A soft prompt starts as embeddings, a prefix as keys and values, and its first token stays what it was: later tokens
rest a good part of their attention on the first, and a cartridge whose first token is frozen is tuned more steadily
(Eyuboglu et al. 2025, https://arxiv.org/abs/2506.06266).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from edge_prompt_export.modalities.language.network import ConditionedCausalLM
from edge_prompt_export.training.settings import TuneSettings


def prompt_of_text(kind: str, module: ConditionedCausalLM, ids: list[int]) -> Tensor:
    """The prompt that `ids` give, with the axes of a prompt file."""
    with torch.no_grad():
        return _INITIAL[kind](module, torch.tensor([ids])).clone()


def free_of_language(prompt: Tensor, settings: TuneSettings) -> Tensor | None:
    """1 where a prompt is tuned and 0 where it stays; None tunes all of it."""
    if settings.kind != "prefix":
        return None
    free = torch.ones_like(prompt)
    free[..., 0, :] = 0
    return free


def _soft(module: ConditionedCausalLM, ids: Tensor) -> Tensor:
    embedded: Tensor = module.embedding(ids)
    return embedded[0]


def _prefix(module: ConditionedCausalLM, ids: Tensor) -> Tensor:
    request = module.under({"input_ids": ids, "attention_mask": torch.ones_like(ids)}, {})
    _, *cache = module(**request | {"logits_to_keep": torch.zeros(0, dtype=torch.long)})
    stacked = torch.stack(cache)[:, 0]
    return stacked.reshape(-1, 2, *stacked.shape[1:])


_INITIAL: dict[str, Callable[[ConditionedCausalLM, Tensor], Tensor]] = {"soft": _soft, "prefix": _prefix}
