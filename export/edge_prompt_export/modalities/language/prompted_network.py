"""The language model that is tuned: the exported module itself, with the prompt as its parameter and the rest frozen.

As on the device, the keys and values of the prompt are computed once and shared by all rows of a batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from edge_prompt_export.modalities.language.examples import pad_left
from edge_prompt_export.modalities.language.network import ConditionedCausalLM
from edge_prompt_export.training.examples import Batch
from edge_prompt_export.training.prompted_network import PromptedNetwork


class Past(NamedTuple):
    """The keys and values of the tokens that a batch has read so far.

    Attributes:
        cache: For each layer its keys, then its values, `[batch, num_kv_heads, length, head_dim]` each.
        mask: `[batch, length]` int64, 0 for padding and 1 otherwise.
    """

    cache: tuple[Tensor, ...]
    mask: Tensor

    def repeated(self, times: int) -> Past:
        """Repeat each row `times` times, with copies next to each other."""
        return Past(
            tuple(part.repeat_interleave(times, 0) for part in self.cache), self.mask.repeat_interleave(times, 0)
        )


class PromptedLanguageModel(PromptedNetwork[ConditionedCausalLM]):
    """A causal language model with a prompt as its parameter and its own head; see `PromptedNetwork`."""

    def forward(self, batch: Batch) -> Tensor:
        """The logits before each token of the completions, `[completion tokens, vocab_size]` float32, row by row."""
        request = batch.request
        logits, _ = self.forward_tokens(
            self.past(len(request["input_ids"])),
            request["input_ids"],
            request["attention_mask"],
            request["scored"].shape[1],
        )
        return logits[request["scored"]].float()

    def past(self, batch: int) -> Past:
        """The prompt's keys and values, expanded to a batch."""
        backbone = self.backbone
        empty = backbone.empty_prompts()
        inputs = empty | (backbone.as_input(self._kind, self.prompt) if self._kind else {})
        cache = tuple(inputs[name] for name in backbone.cache_names)
        length = inputs["soft_prompt"].shape[1]
        if length:
            _, *made = backbone(
                input_ids=torch.zeros(1, 0, dtype=torch.long),
                attention_mask=torch.ones(1, length, dtype=torch.long),
                position_ids=torch.arange(length)[None],
                logits_to_keep=torch.zeros(0, dtype=torch.long),
                **inputs,
            )
            cache = tuple(made)
        mask = torch.ones(batch, cache[0].shape[2], dtype=torch.long)
        return Past(tuple(part.expand(batch, -1, -1, -1) for part in cache), mask)

    def forward_tokens(self, past: Past, input_ids: Tensor, mask: Tensor, last: int) -> tuple[Tensor, Past]:
        """Run the network on tokens after `past`.

        Args:
            past: The keys and values of each row so far.
            input_ids: `[batch, sequence]`.
            mask: `[batch, sequence]`, 1 for tokens and 0 for padding.
            last: The number of positions at the end to return logits for.

        Returns:
            The logits `[batch, last, vocab_size]`, and the new past.
        """
        sequence = input_ids.shape[1]
        whole = torch.cat([past.mask, mask], 1)
        logits, *cache = self.backbone(
            input_ids=input_ids,
            attention_mask=whole,
            position_ids=(whole.cumsum(1) - 1).clamp(min=0)[:, -sequence:],
            logits_to_keep=torch.arange(sequence - last, sequence),
            soft_prompt=self.backbone.empty_prompts()["soft_prompt"],
            **dict(zip(self.backbone.cache_names, past.cache, strict=True)),
        )
        return logits, Past(tuple(cache), whole)

    def label_scores(self, prompts: Sequence[Sequence[int]], labels: Sequence[Sequence[int]]) -> Tensor:
        """The log-probability of each label after each prompt, the sum over its tokens: `[batch, num_labels]`."""
        prompt = pad_left(prompts)
        logits, past = self.forward_tokens(self.past(len(prompts)), prompt["input_ids"], prompt["attention_mask"], 1)
        longest = max(map(len, labels))
        tokens = torch.zeros(len(labels), longest, dtype=torch.long)
        for number, label in enumerate(labels):
            tokens[number, : len(label)] = torch.tensor(label)
        counted = torch.arange(longest) < torch.tensor([len(label) for label in labels])[:, None]
        logits = logits.repeat_interleave(len(labels), 0)
        if longest > 1:
            following, _ = self.forward_tokens(
                past.repeated(len(labels)),
                tokens[:, :-1].repeat(len(prompts), 1),
                counted[:, 1:].long().repeat(len(prompts), 1),
                longest - 1,
            )
            logits = torch.cat([logits, following], 1)
        targets = tokens.repeat(len(prompts), 1)[:, :, None]
        probabilities = logits.float().log_softmax(-1).gather(2, targets)[:, :, 0]
        return (probabilities * counted.repeat(len(prompts), 1)).sum(1).reshape(len(prompts), len(labels))
