from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_prompt.base.errors import FingerprintError
from edge_prompt.formats.fingerprint import Weight, fingerprint_of, require_fingerprint

WEIGHT = Weight("a", "float32", (2, 3), memoryview(bytes(range(24))))
OTHER = Weight("b", "float32", (1,), memoryview(bytes(4)))


@given(seed=st.integers())
def test_the_order_of_the_weights_does_not_count(seed: int) -> None:
    weights = [WEIGHT._replace(name=str(number), content=memoryview(bytes([number] * 24))) for number in range(5)]
    shuffled = random.Random(seed).sample(weights, 5)
    assert fingerprint_of(shuffled) == fingerprint_of(weights)


@pytest.mark.parametrize(
    "changed",
    [
        WEIGHT._replace(name="c"),
        WEIGHT._replace(dtype="int32"),
        WEIGHT._replace(shape=(3, 2)),
        WEIGHT._replace(shape=(6,)),
        WEIGHT._replace(content=memoryview(bytes(range(23)) + b"\0")),
    ],
)
def test_names_dtypes_shapes_and_bytes_count(changed: Weight) -> None:
    assert fingerprint_of([changed, OTHER]) != fingerprint_of([WEIGHT, OTHER])


def test_an_additional_weight_counts() -> None:
    assert fingerprint_of([WEIGHT]) != fingerprint_of([WEIGHT, OTHER])


def test_the_fingerprint_never_changes() -> None:
    found = fingerprint_of([WEIGHT, OTHER])
    assert found == "4ffc95fd60c8efce1b21952175832a72238399af85414daae703eecf7fef16c3"


def test_the_same_fingerprint_is_accepted() -> None:
    require_fingerprint("a" * 64, "a" * 64, "x.npy")  # raises nothing


def test_another_fingerprint_is_refused() -> None:
    with pytest.raises(
        FingerprintError, match=r"x\.npy was tuned on a backbone with the fingerprint aaaaaaaaaaaa…; expected b"
    ):
        require_fingerprint("a" * 64, "b" * 64, "x.npy")
