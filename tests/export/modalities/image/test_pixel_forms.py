from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edge_prompt_export.modalities.image.pixel_forms import FRAME_SHARE, PIXEL_FORMS

SIZES = st.integers(1, 300)


@pytest.mark.parametrize("form", PIXEL_FORMS)
@given(height=SIZES, width=SIZES)
def test_a_mask_is_of_zeros_and_ones_and_of_the_images_size(form: str, height: int, width: int) -> None:
    mask = PIXEL_FORMS[form](height, width)
    assert mask.shape == (height, width)
    assert ((mask == 0) | (mask == 1)).all()
    assert mask[0, 0] == 1


def test_the_published_width_is_30_of_224() -> None:
    assert PIXEL_FORMS["frame"](224, 224)[112].sum() == 2 * 30
    assert PIXEL_FORMS["frame"](224, 336)[112].sum() == 2 * 30
    assert PIXEL_FORMS["patch"](224, 224).sum() == 30 * 30


def test_forms_of_a_small_image() -> None:
    assert PIXEL_FORMS["full"](2, 3).tolist() == [[1, 1, 1], [1, 1, 1]]
    assert PIXEL_FORMS["frame"](3, 4).tolist() == [[1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]]
    assert PIXEL_FORMS["patch"](3, 4).tolist() == [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


@given(height=SIZES, width=SIZES)
def test_a_frame_is_as_wide_on_every_side(height: int, width: int) -> None:
    mask = PIXEL_FORMS["frame"](height, width)
    wide = max(1, round(FRAME_SHARE * min(height, width)))
    inside = mask[wide : max(wide, height - wide), wide : max(wide, width - wide)]
    assert inside.sum() == 0
    assert mask.sum() == height * width - inside.numel()
    assert inside.numel() == max(0, height - 2 * wide) * max(0, width - 2 * wide)
    assert torch.equal(mask, mask.flip(0))
    assert torch.equal(mask, mask.flip(1))


@given(height=SIZES, width=SIZES)
def test_a_patch_is_a_square_as_wide_as_the_frame(height: int, width: int) -> None:
    mask = PIXEL_FORMS["patch"](height, width)
    side = int(mask[0].sum())
    assert side == max(1, round(FRAME_SHARE * min(height, width)))
    assert mask[:side, :side].sum() == mask.sum() == side**2
