"""Tokenised training texts, batched by similar length so that little computation is spent on padding."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

import torch
from transformers import PreTrainedTokenizerBase

from edge_prompt.formats.card import TEMPLATE_FIELD
from edge_prompt_export.training.data import Example
from edge_prompt_export.training.examples import Batch

_POOL_BATCHES = 32
"""Rows are sorted by length within groups of this many batches: little padding, but another order in every epoch."""


class HasTokens(Protocol):
    """A row of tokens."""

    @property
    def input_ids(self) -> list[int]:
        """The token ids."""


R = TypeVar("R", bound=HasTokens)


class TokenizedText(NamedTuple):
    """One tokenised example."""

    input_ids: list[int]
    label: int


class TokenExamples(ABC, Generic[R]):
    """Tokenised examples; see `Examples`. Subclasses define how rows are collated into a batch.

    Args:
        rows: The examples.
    """

    def __init__(self, rows: Sequence[R]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.rows)

    def shuffled(self, batch_size: int, rng: random.Random) -> Iterator[Batch]:
        """All rows once, in random order, batched by similar length."""
        order = list(range(len(self.rows)))
        rng.shuffle(order)
        pool = batch_size * _POOL_BATCHES
        groups = []
        for start in range(0, len(order), pool):
            by_length = sorted(order[start : start + pool], key=lambda index: len(self.rows[index].input_ids))
            groups += [by_length[first : first + batch_size] for first in range(0, len(by_length), batch_size)]
        rng.shuffle(groups)
        return (self.collate([self.rows[index] for index in group]) for group in groups)

    def ordered(self, batch_size: int) -> Iterator[Batch]:
        """All rows once in batches, the shortest first."""
        return (self.collate(rows) for rows in self.by_length(batch_size))

    def by_length(self, batch_size: int) -> Iterator[list[R]]:
        """All rows once in uncollated batches, the shortest first."""
        by_length = sorted(self.rows, key=lambda row: len(row.input_ids))
        return (by_length[start : start + batch_size] for start in range(0, len(by_length), batch_size))

    @abstractmethod
    def collate(self, rows: Sequence[R]) -> Batch:
        """Collate `rows` into a batch."""


class TextExamples(TokenExamples[TokenizedText]):
    """Tokenised texts with their classes.

    Args:
        rows: The examples.
        pad_token_id: The token that rows are padded with.
        takes_types: Whether the network takes token types; they are all 0.
    """

    def __init__(self, rows: Sequence[TokenizedText], pad_token_id: int, *, takes_types: bool) -> None:
        super().__init__(rows)
        self._pad_token_id = pad_token_id
        self._takes_types = takes_types

    def collate(self, rows: Sequence[TokenizedText]) -> Batch:
        """Pad the rows to the longest one and collate them."""
        longest = max(len(row.input_ids) for row in rows)
        input_ids = torch.full((len(rows), longest), self._pad_token_id)
        attention_mask = torch.zeros(len(rows), longest, dtype=torch.long)
        for number, row in enumerate(rows):
            input_ids[number, : len(row.input_ids)] = torch.tensor(row.input_ids)
            attention_mask[number, : len(row.input_ids)] = 1
        request = {"input_ids": input_ids, "attention_mask": attention_mask}
        if self._takes_types:
            request["token_type_ids"] = torch.zeros_like(input_ids)
        return Batch(request, torch.tensor([row.label for row in rows]))


def tokenise(
    examples: Sequence[Example],
    labels: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    template: str,
    max_tokens: int,
) -> list[TokenizedText]:
    """Put examples into a template and tokenise them, truncated to `max_tokens`, special tokens included."""
    texts = [template.replace(TEMPLATE_FIELD, example.text) for example in examples]
    encoded = tokenizer(texts, truncation=True, max_length=max_tokens)["input_ids"]
    index = {label: number for number, label in enumerate(labels)}
    return [TokenizedText(ids, index[example.label]) for ids, example in zip(encoded, examples, strict=True)]
