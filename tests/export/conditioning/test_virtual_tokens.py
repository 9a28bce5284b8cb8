from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from edge_prompt_export.conditioning.virtual_tokens import join, take_slots

WIDTH = 2


def numbered(first: int, rows: int, length: int) -> Tensor:
    """Distinct vectors: `first`, `first + 1`, …"""
    numbers = torch.arange(first, first + rows * length, dtype=torch.float32)
    return numbers.reshape(rows, length, 1).expand(-1, -1, WIDTH)


def mask_of(lengths: list[int], longest: int) -> Tensor:
    return (torch.arange(longest) < torch.tensor(lengths)[:, None]).long()


def test_each_row_is_its_virtual_tokens_then_its_tokens_then_padding() -> None:
    joined = join(numbered(10, 2, 3), mask_of([3, 2], 3), numbered(50, 2, 2), mask_of([1, 2], 2))
    assert joined.embeddings[..., 0].tolist() == [[50, 10, 11, 12, 0], [52, 53, 13, 14, 0]]
    assert joined.mask.tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 0]]
    assert joined.is_token.tolist() == [[False, True, True, True, False], [False, False, True, True, False]]
    assert joined.token_slots.tolist() == [[1, 2, 3], [2, 3, 4]]


def test_without_virtual_tokens_the_tokens_stay_where_they_are() -> None:
    tokens, mask = numbered(1, 2, 3), mask_of([3, 1], 3)
    joined = join(tokens, mask, torch.zeros(1, 0, WIDTH), mask[:, :0])
    assert joined.embeddings[..., 0].tolist() == [[1, 2, 3], [4, 0, 0]]
    assert torch.equal(joined.mask, mask)
    assert joined.token_slots.tolist() == [[0, 1, 2], [0, 1, 2]]


def test_a_leading_1_gives_every_row_the_same_prompt() -> None:
    tokens, mask, soft_mask = numbered(1, 3, 2), mask_of([2, 1, 2], 2), mask_of([2, 0, 1], 2)
    shared = join(tokens, mask, numbered(50, 1, 2), soft_mask)
    repeated = join(tokens, mask, numbered(50, 1, 2).expand(3, -1, -1), soft_mask)
    assert torch.equal(shared.embeddings, repeated.embeddings)
    assert shared.embeddings[..., 0].tolist() == [[50, 51, 1, 2], [3, 0, 0, 0], [50, 5, 6, 0]]


@given(
    rows=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6)), min_size=1, max_size=4),
    spare=st.tuples(st.integers(0, 2), st.integers(0, 2)),
)
def test_a_row_is_laid_out_as_if_it_were_alone(rows: list[tuple[int, int]], spare: tuple[int, int]) -> None:
    virtual_tokens = max(soft for soft, _ in rows) + spare[0]
    tokens = max(length for _, length in rows) + spare[1]
    embeddings, prompts = numbered(100, len(rows), tokens), numbered(1000, len(rows), virtual_tokens)
    token_mask = mask_of([length for _, length in rows], tokens)
    soft_mask = mask_of([soft for soft, _ in rows], virtual_tokens)
    joined = join(embeddings, token_mask, prompts, soft_mask)
    slots = virtual_tokens + tokens
    for row, (soft, length) in enumerate(rows):
        padding = slots - soft - length
        own = [*prompts[row, :soft, 0].tolist(), *embeddings[row, :length, 0].tolist()]
        assert joined.embeddings[row, :, 0].tolist() == [*own, *[0.0] * padding]
        assert joined.mask[row].tolist() == [1] * (soft + length) + [0] * padding
        assert joined.is_token[row].tolist() == [False] * soft + [True] * length + [False] * padding
        assert joined.token_slots[row].tolist() == [soft + token for token in range(tokens)]


def test_the_gradient_reaches_the_virtual_tokens_that_are_used_and_no_other() -> None:
    soft_prompt = torch.ones(2, 2, WIDTH, requires_grad=True)
    joined = join(numbered(1, 2, 2), mask_of([2, 2], 2), soft_prompt, mask_of([2, 1], 2))
    joined.embeddings.sum().backward()  # type: ignore[no-untyped-call]
    assert soft_prompt.grad is not None
    assert soft_prompt.grad[..., 0].tolist() == [[1, 1], [1, 0]]


def test_virtual_tokens_take_the_type_of_the_embeddings() -> None:
    joined = join(numbered(1, 1, 2).half(), mask_of([2], 2), numbered(5, 1, 1), mask_of([1], 1))
    assert joined.embeddings.dtype == torch.float16
    assert joined.embeddings[0, :, 0].tolist() == [5, 1, 2]


def test_slots_are_taken_row_by_row() -> None:
    taken = take_slots(numbered(0, 2, 4), torch.tensor([[3, 0], [1, 1]]))
    assert taken[..., 0].tolist() == [[3, 0], [5, 5]]
