from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge_prompt_runtime.engines.openvino.state import left_padded_mask, pad_tokens, positions_of, stack_pasts

lengths = st.lists(st.integers(0, 5), min_size=1, max_size=4)


@given(lengths=lengths)
def test_pasts_end_at_the_same_place(lengths: list[int]) -> None:
    random = np.random.default_rng(0)
    pasts = [[random.standard_normal((1, 2, length, 3), np.float32) for _ in range(4)] for length in lengths]
    together, mask = stack_pasts(pasts), left_padded_mask(lengths)
    for part, joined in enumerate(together):
        assert joined.shape == (len(lengths), 2, max(lengths), 3)
        for row, past in enumerate(pasts):
            np.testing.assert_array_equal(joined[row][:, mask[row] > 0], past[part][0])
            assert not joined[row][:, mask[row] == 0].any()


@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4), past=st.integers(0, 3))
def test_positions_count_what_is_there(lengths: list[int], past: int) -> None:
    tokens, mask = pad_tokens([np.arange(1, length + 1) for length in lengths])
    whole = np.concatenate([np.ones((len(lengths), past), np.int64), mask], 1)
    positions = positions_of(whole, mask.shape[1])
    for row, length in enumerate(lengths):
        real = mask[row] > 0
        assert tokens[row][real].tolist() == list(range(1, length + 1))
        assert positions[row][real].tolist() == list(range(past, past + length))
