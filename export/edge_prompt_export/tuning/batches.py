"""Batches: token rows of like length together, so that little is spent on padding."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from edge_prompt.card import TEMPLATE_FIELD
from edge_prompt_export.tuning.data import Example

_POOL_BATCHES = 32
"""Rows are sorted by length within so many batches: little padding, and yet another order every epoch."""


class Row(NamedTuple):
    """One tokenised example."""

    input_ids: list[int]
    label: int


class Batch(NamedTuple):
    """Rows filled up to the longest: `input_ids` and `attention_mask` `[batch, sequence]`, `labels [batch]`; int64."""

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor


def tokenise(
    examples: Sequence[Example],
    labels: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    template: str,
    max_tokens: int,
) -> list[Row]:
    """Tokenise examples in a template, cut to `max_tokens`, special tokens included."""
    texts = [template.replace(TEMPLATE_FIELD, example.text) for example in examples]
    encoded = tokenizer(texts, truncation=True, max_length=max_tokens)["input_ids"]
    index = {label: number for number, label in enumerate(labels)}
    return [Row(ids, index[example.label]) for ids, example in zip(encoded, examples, strict=True)]


def shuffled_batches(rows: Sequence[Row], batch_size: int, pad_token_id: int, rng: random.Random) -> list[Batch]:
    """All rows once, in an order that `rng` gives, rows of like length together."""
    order = list(range(len(rows)))
    rng.shuffle(order)
    pool = batch_size * _POOL_BATCHES
    groups = []
    for start in range(0, len(order), pool):
        by_length = sorted(order[start : start + pool], key=lambda index: len(rows[index].input_ids))
        groups += [by_length[first : first + batch_size] for first in range(0, len(by_length), batch_size)]
    rng.shuffle(groups)
    return [collate([rows[index] for index in group], pad_token_id) for group in groups]


def sorted_batches(rows: Sequence[Row], batch_size: int, pad_token_id: int) -> Iterator[Batch]:
    """All rows once, the shortest first."""
    by_length = sorted(rows, key=lambda row: len(row.input_ids))
    for start in range(0, len(by_length), batch_size):
        yield collate(by_length[start : start + batch_size], pad_token_id)


def collate(rows: Sequence[Row], pad_token_id: int) -> Batch:
    """Fill rows up to the longest."""
    longest = max(len(row.input_ids) for row in rows)
    input_ids = torch.full((len(rows), longest), pad_token_id)
    attention_mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for number, row in enumerate(rows):
        input_ids[number, : len(row.input_ids)] = torch.tensor(row.input_ids)
        attention_mask[number, : len(row.input_ids)] = 1
    return Batch(input_ids, attention_mask, torch.tensor([row.label for row in rows]))
