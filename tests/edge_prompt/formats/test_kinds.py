from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_prompt.base.errors import PromptKindError, PromptShapeError
from edge_prompt.formats.kinds import KIND_AXES, KindShape, describe, fits, kind_of, require_kind, require_shape

ACCEPTED: dict[str, KindShape] = {"soft": (None, 32), "prefix": (2, 2, 4, None, 8)}
AMBIGUOUS: dict[str, KindShape] = {"deep": (3, None, 32), "pixel": (3, 32, 32)}


@given(length=st.integers(1, 1000))
def test_the_kind_follows_from_the_shape(length: int) -> None:
    assert kind_of((length, 32), None, ACCEPTED, "x") == "soft"
    assert kind_of((2, 2, 4, length, 8), None, ACCEPTED, "x") == "prefix"


def test_a_given_kind_is_kept() -> None:
    assert kind_of((3, 32, 32), "pixel", AMBIGUOUS, "x") == "pixel"
    assert kind_of((3, 32, 32), "deep", AMBIGUOUS, "x") == "deep"


def test_a_shape_that_allows_two_kinds_is_refused_with_what_to_pass() -> None:
    with pytest.raises(PromptKindError, match=r"fits the kinds deep and pixel.*Pass the kind \(--kind, kind=…\)"):
        kind_of((3, 32, 32), None, AMBIGUOUS, "x")


@pytest.mark.parametrize(
    "shape",
    [(5, 31), (5, 33), (0, 32), (32,), (5, 32, 1), (3, 2, 4, 5, 8), (2, 1, 4, 5, 8), (2, 2, 3, 5, 8), (2, 2, 4, 5, 9)],
)
def test_a_shape_of_other_sizes_is_refused_with_those_wanted(shape: tuple[int, ...]) -> None:
    wanted = r"soft \[num_virtual_tokens, 32\] or prefix \[2, 2, 4, num_virtual_tokens, 8\]"
    with pytest.raises(PromptShapeError, match=wanted):
        kind_of(shape, None, ACCEPTED, "x")


def test_a_shape_of_another_kind_than_said_is_refused() -> None:
    with pytest.raises(PromptShapeError, match=r"x: a soft prompt of shape \[2, 2, 4, 5, 8\]"):
        kind_of((2, 2, 4, 5, 8), "soft", ACCEPTED, "x")


@pytest.mark.parametrize("kind", ["deep", "", "sOft", "k" * 1000])
def test_a_kind_that_the_bundle_does_not_take_is_refused(kind: str) -> None:
    with pytest.raises(PromptKindError, match="expected one of soft, prefix") as caught:
        require_kind(kind, ACCEPTED, "x")
    assert len(str(caught.value)) < 200


def test_a_fitting_shape_is_accepted() -> None:
    require_shape((5, 32), "soft", ACCEPTED["soft"], "x")  # raises nothing


def test_a_prompt_of_length_0_is_refused() -> None:
    assert fits((1, 32), ACCEPTED["soft"])
    assert not fits((0, 32), ACCEPTED["soft"])


@pytest.mark.parametrize("kind", KIND_AXES)
def test_a_kind_is_described_by_its_axes(kind: str) -> None:
    free: KindShape = (None,) * len(KIND_AXES[kind])
    assert describe(kind, free) == f"{kind} [{', '.join(KIND_AXES[kind])}]"
