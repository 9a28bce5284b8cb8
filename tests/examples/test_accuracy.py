from __future__ import annotations

import pytest

from examples.accuracy import Accuracy, sample


@pytest.mark.parametrize(
    ("right", "total", "low", "high"),
    [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605)],
)
def test_the_interval_is_wilsons(right: int, total: int, low: float, high: float) -> None:
    """The last two are from Newcombe 1998, table I, whose figures have four digits."""
    assert Accuracy(right, total).interval == pytest.approx((low, high), abs=6e-5)


def test_an_accuracy_is_shown_with_its_interval() -> None:
    assert str(Accuracy(193, 200)) == "96.5% (93-98)"
    assert str(Accuracy(200, 200)) == "100.0% (98-100)"


def test_a_sample_is_the_same_for_the_same_seed() -> None:
    rows = list(range(1000))
    assert sample(rows, 50) == sample(rows, 50)
    assert sample(rows, 50) != sample(rows, 50, seed=1)
    assert len(set(sample(rows, 50))) == 50


@pytest.mark.parametrize("size", [None, 3, 4])
def test_a_sample_as_large_as_the_split_is_the_whole_split_in_its_order(size: int | None) -> None:
    assert sample([3, 1, 2], size) == [3, 1, 2]
