from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from edge_prompt.base.errors import UnsupportedArchitectureError
from edge_prompt_export.conditioning.attention import (
    ATTENTION_NAME,
    PrefixPass,
    prefix_attention,
    prefix_pass,
    rows_of,
)
from edge_prompt_export.modalities.text.network import ConditionedTextEncoder

BATCH, HEADS, SEQUENCE, HEAD_DIM, LENGTH = 2, 4, 5, 8, 3


def random_heads(heads: int = HEADS, length: int = SEQUENCE, seed: int = 0) -> Tensor:
    return torch.randn(BATCH, heads, length, HEAD_DIM, generator=torch.Generator().manual_seed(seed))


def random_prefix(layers: int = 1, batch: int = 1, heads: int = HEADS, length: int = LENGTH) -> Tensor:
    shape = (layers, 2, batch, heads, length, HEAD_DIM)
    return torch.randn(shape, generator=torch.Generator().manual_seed(9))


def attended(query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None = None) -> Tensor:
    """Attention as defined in the papers, with the result `[batch, sequence, heads, head_dim]`."""
    scores = query @ key.transpose(2, 3) / HEAD_DIM**0.5
    if allowed is not None:
        scores = scores.masked_fill(~allowed, float("-inf"))
    mixed: Tensor = scores.softmax(-1) @ value
    return mixed.transpose(1, 2)


def test_without_a_prefix_it_is_plain_attention() -> None:
    query, key, value = (random_heads(seed=seed) for seed in range(3))
    found, weights = prefix_attention(nn.Identity(), query, key, value, None)
    torch.testing.assert_close(found, attended(query, key, value))
    assert weights is None


def test_a_prefix_is_keys_and_values_before_those_of_the_sequence() -> None:
    query, key, value = (random_heads(seed=seed) for seed in range(3))
    prefix = random_prefix(batch=BATCH)
    with prefix_pass(prefix, torch.ones(BATCH, LENGTH, dtype=torch.bool)):
        found, _ = prefix_attention(nn.Identity(), query, key, value, None)
    wanted = attended(query, torch.cat([prefix[0, 0], key], 2), torch.cat([prefix[0, 1], value], 2))
    torch.testing.assert_close(found, wanted)


def test_a_prefix_of_length_0_is_no_prefix() -> None:
    query, key, value = (random_heads(seed=seed) for seed in range(3))
    with prefix_pass(random_prefix(length=0), torch.ones(BATCH, 0, dtype=torch.bool)):
        found, _ = prefix_attention(nn.Identity(), query, key, value, None)
    torch.testing.assert_close(found, attended(query, key, value))


def test_a_row_does_not_attend_to_the_padding_of_its_prefix() -> None:
    query, key, value = (random_heads(seed=seed) for seed in range(3))
    prefix = random_prefix(batch=BATCH)
    prefix_mask = torch.tensor([[True, True, True], [True, False, False]])
    with prefix_pass(prefix, prefix_mask):
        found, _ = prefix_attention(nn.Identity(), query, key, value, None)
    keys, values = torch.cat([prefix[0, 0], key], 2), torch.cat([prefix[0, 1], value], 2)
    allowed = torch.cat([prefix_mask, torch.ones(BATCH, SEQUENCE, dtype=torch.bool)], 1)[:, None, None]
    torch.testing.assert_close(found, attended(query, keys, values, allowed))


def test_a_prefix_and_the_mask_of_the_network_hold_together() -> None:
    query, key, value = (random_heads(seed=seed) for seed in range(3))
    prefix = random_prefix()
    prefix_mask = torch.tensor([[True, True, False], [True, True, True]])
    causal = torch.ones(SEQUENCE, SEQUENCE, dtype=torch.bool).tril()[None, None]
    with prefix_pass(prefix, prefix_mask):
        found, _ = prefix_attention(nn.Identity(), query, key, value, causal.expand(BATCH, 1, -1, -1))
    keys = torch.cat([prefix[0, 0].expand(BATCH, -1, -1, -1), key], 2)
    values = torch.cat([prefix[0, 1].expand(BATCH, -1, -1, -1), value], 2)
    before = prefix_mask[:, None, None].expand(-1, 1, SEQUENCE, -1)
    allowed = torch.cat([before, causal.expand(BATCH, -1, -1, -1)], -1)
    torch.testing.assert_close(found, attended(query, keys, values, allowed))


def test_an_additive_mask_means_what_a_boolean_one_does() -> None:
    query, key, value = (random_heads(seed=seed) for seed in range(3))
    allowed = torch.tensor([[True, True, True, False, False], [True] * SEQUENCE])[:, None, None]
    least = torch.finfo(torch.float32).min
    additive = torch.zeros(allowed.shape).masked_fill(~allowed, least)
    by_boolean, _ = prefix_attention(nn.Identity(), query, key, value, allowed)
    by_bias, _ = prefix_attention(nn.Identity(), query, key, value, additive)
    torch.testing.assert_close(by_boolean, attended(query, key, value, allowed))
    torch.testing.assert_close(by_bias, by_boolean)


def test_a_fully_masked_row_stays_finite() -> None:
    query, key, value = (random_heads(seed=seed) for seed in range(3))
    allowed = torch.tensor([[False] * SEQUENCE, [True] * SEQUENCE])[:, None, None]
    additive = torch.zeros(allowed.shape).masked_fill(~allowed, float("-inf"))
    for mask in (allowed, additive):
        bias = PrefixPass().bias(mask, query, key)  # in some engines, a softmax over -inf alone is NaN
        assert bias is not None
        assert bias.isfinite().all()
        found, _ = prefix_attention(nn.Identity(), query, key, value, mask)
        assert found.isfinite().all()
        torch.testing.assert_close(found[1], attended(query, key, value)[1])


def test_a_position_bias_covers_the_sequence_and_not_the_prefix() -> None:
    query, key, value = (random_heads(seed=seed) for seed in range(3))
    prefix = random_prefix()
    bias = torch.randn(1, HEADS, SEQUENCE, SEQUENCE, generator=torch.Generator().manual_seed(5))
    with prefix_pass(prefix, torch.ones(BATCH, LENGTH, dtype=torch.bool)):
        found, _ = prefix_attention(nn.Identity(), query, key, value, None, scaling=1.0, position_bias=bias)
    keys = torch.cat([prefix[0, 0].expand(BATCH, -1, -1, -1), key], 2)
    values = torch.cat([prefix[0, 1].expand(BATCH, -1, -1, -1), value], 2)
    scores = query @ keys.transpose(2, 3)
    scores[..., LENGTH:] += bias
    torch.testing.assert_close(found, (scores.softmax(-1) @ values).transpose(1, 2))


def test_scaling_is_the_one_asked_for() -> None:
    query, key, value = (random_heads(seed=seed) for seed in range(3))
    found, _ = prefix_attention(nn.Identity(), query, key, value, None, scaling=0.5)
    torch.testing.assert_close(found, attended(query * 0.5 * HEAD_DIM**0.5, key, value))


@pytest.mark.parametrize("position_bias", [None, torch.ones(1, HEADS, SEQUENCE, SEQUENCE)])
def test_with_gradients_it_gives_the_same_numbers(position_bias: Tensor | None) -> None:
    query, key, value = (random_heads(seed=seed) for seed in range(3))
    mask = torch.ones(BATCH, 1, 1, SEQUENCE, dtype=torch.bool)
    mask[0, :, :, 3:] = False
    found = []
    for prefix in (random_prefix(), random_prefix().requires_grad_()):
        with prefix_pass(prefix, torch.ones(BATCH, LENGTH, dtype=torch.bool)):
            found.append(
                prefix_attention(nn.Identity(), query, key, value, mask, scaling=0.5, position_bias=position_bias)[0]
            )
    assert found[1].requires_grad
    torch.testing.assert_close(*found)


def test_grouped_queries_share_their_keys_and_values() -> None:
    query, key, value = random_heads(), random_heads(heads=2, seed=1), random_heads(heads=2, seed=2)
    prefix = random_prefix(heads=2)
    with prefix_pass(prefix, torch.ones(BATCH, LENGTH, dtype=torch.bool)):
        found, _ = prefix_attention(nn.Identity(), query, key, value, None)
    keys = torch.cat([prefix[0, 0].expand(BATCH, -1, -1, -1), key], 2).repeat_interleave(2, 1)
    values = torch.cat([prefix[0, 1].expand(BATCH, -1, -1, -1), value], 2).repeat_interleave(2, 1)
    torch.testing.assert_close(found, attended(query, keys, values))


def test_layers_are_numbered_by_the_order_of_calls_on_one_module() -> None:
    query, key, value = (random_heads(seed=seed) for seed in range(3))
    prefix, shared = random_prefix(layers=2), nn.Identity()
    with prefix_pass(prefix, torch.ones(BATCH, LENGTH, dtype=torch.bool)) as current:
        layers = [prefix_attention(shared, query, key, value, None)[0] for _ in range(2)]
    for number, found in enumerate(layers):
        keys, values = (
            torch.cat([side.expand(BATCH, -1, -1, -1), own], 2)
            for side, own in zip(prefix[number], (key, value), strict=True)
        )
        torch.testing.assert_close(found, attended(query, keys, values))
    assert current.layer_shapes == [(HEADS, HEAD_DIM)] * 2


def test_layers_with_masks_of_their_own_each_get_their_own() -> None:
    query, key, value = (random_heads(seed=seed) for seed in range(3))
    everything = torch.ones(BATCH, 1, SEQUENCE, SEQUENCE, dtype=torch.bool)
    window = everything.tril(1).triu(-1)
    with prefix_pass(None):
        found = [prefix_attention(nn.Identity(), query, key, value, mask)[0] for mask in (everything, window, None)]
    wanted = [attended(query, key, value, mask) for mask in (everything, window, None)]
    torch.testing.assert_close(found, wanted)


def test_the_prefix_ends_with_its_block_even_after_an_error() -> None:
    query, key, value = (random_heads(seed=seed) for seed in range(3))

    def fail() -> None:
        with prefix_pass(random_prefix()):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    found, _ = prefix_attention(nn.Identity(), query, key, value, None)
    torch.testing.assert_close(found, attended(query, key, value))


@pytest.mark.parametrize("argument", ["softcap", "s_aux", "head_mask"])
def test_what_it_does_not_compute_is_refused(argument: str) -> None:
    query, key, value = (random_heads(seed=seed) for seed in range(3))
    given: dict[str, Any] = {argument: torch.ones(1)}
    with pytest.raises(UnsupportedArchitectureError, match=f"Identity passes '{argument}'"):
        prefix_attention(nn.Identity(), query, key, value, None, **given)
    given = {argument: None}
    found, _ = prefix_attention(nn.Identity(), query, key, value, None, **given)
    torch.testing.assert_close(found, attended(query, key, value))


def test_values_of_another_size_than_the_keys_are_refused() -> None:
    query, key, value = (random_heads(seed=seed) for seed in range(3))
    with pytest.raises(UnsupportedArchitectureError, match="keys of 8 numbers and values of 4"):
        prefix_attention(nn.Identity(), query, key, value[..., :4], None)


@pytest.mark.parametrize(("rows", "wanted"), [(1, [0, 0, 0]), (3, [0, 1, 2])])
def test_rows_broadcast_a_leading_1_and_keep_a_leading_batch(rows: int, wanted: list[int]) -> None:
    assert rows_of(rows, torch.zeros(3, 7)).tolist() == wanted


def test_it_is_registered_together_with_a_mask() -> None:
    assert AttentionInterface()[ATTENTION_NAME] is prefix_attention
    assert ATTENTION_NAME in AttentionMaskInterface().valid_keys()


def test_the_network_gets_a_mask_even_where_nothing_is_padded(
    conditioned: Callable[..., ConditionedTextEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    masks: list[Tensor | None] = []

    def watched(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **others: Any
    ) -> tuple[Tensor, None]:
        masks.append(mask)
        return prefix_attention(module, query, key, value, mask, **others)

    module = conditioned("bert")
    monkeypatch.setitem(AttentionInterface._global_mapping, ATTENTION_NAME, watched)
    module(**module.example_inputs(batch=1, sequence=4, virtual_tokens=0, prefix_length=0))
    assert [None if mask is None else tuple(mask.shape[-2:]) for mask in masks] == [(4, 4), (4, 4)]
