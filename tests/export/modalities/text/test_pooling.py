from __future__ import annotations

import torch

from edge_prompt_export.conditioning.virtual_tokens import JoinedSequence, join
from edge_prompt_export.modalities.text.pooling import FROM_TOKENS, cls_pooling, first_pooling, mean_pooling


def joined_rows() -> JoinedSequence:
    """Row 0 has two virtual tokens and three tokens; row 1 has no virtual tokens, one token, and padding."""
    soft_mask, token_mask = torch.tensor([[1, 1], [0, 0]]), torch.tensor([[1, 1, 1], [1, 0, 0]])
    return join(torch.zeros(2, 3, 4), token_mask, torch.zeros(2, 2, 4), soft_mask)


def test_the_mean_is_over_real_tokens_only() -> None:
    hidden = torch.tensor([[900.0, 900, 1, 2, 6], [5, 700, 700, 700, 700]])[..., None]
    assert mean_pooling(hidden, joined_rows()).tolist() == [[3], [5]]


def test_cls_is_the_first_real_token_not_the_first_virtual_one() -> None:
    hidden = torch.tensor([[900.0, 900, 1, 2, 6], [5, 700, 700, 700, 700]])[..., None]
    assert cls_pooling(hidden, joined_rows()).tolist() == [[1], [5]]


def test_first_is_the_first_position_whatever_stands_there() -> None:
    hidden = torch.tensor([[900.0, 900, 1, 2, 6], [5, 700, 700, 700, 700]])[..., None]
    assert first_pooling(hidden, joined_rows()).tolist() == [[900], [5]]


def test_a_row_of_padding_stays_finite() -> None:
    nothing = torch.zeros(1, 3, dtype=torch.long)
    joined = join(torch.ones(1, 3, 4), nothing, torch.zeros(1, 0, 4), nothing[:, :0])
    for pool in FROM_TOKENS.values():
        assert pool(torch.ones(1, 3, 4), joined).isfinite().all()


def test_features_have_the_type_of_the_hidden_states() -> None:
    for pool in FROM_TOKENS.values():
        assert pool(torch.ones(2, 5, 4, dtype=torch.float16), joined_rows()).dtype == torch.float16
