from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_prompt import read_bundle
from edge_prompt_runtime.serving.sizes import groups_by_size, longest_row, size_of

SIZES = st.lists(st.integers(0, 300), min_size=1, max_size=7)


def partitions(rows: list[int]) -> Iterator[list[list[int]]]:
    if not rows:
        yield []
        return
    first, *others = rows
    for partition in partitions(others):
        yield [[first], *partition]
        for place, group in enumerate(partition):
            yield [*partition[:place], [first, *group], *partition[place + 1 :]]


def cost(groups: Sequence[Sequence[int]], sizes: Sequence[float], run_cost: float) -> float:
    return sum(run_cost + len(group) * max(sizes[row] for row in group) for group in groups)


@given(SIZES, st.integers(0, 200))
def test_groups_have_the_lowest_cost(sizes: list[int], run_cost: int) -> None:
    groups = groups_by_size(sizes, run_cost)
    assert sorted(row for group in groups for row in group) == list(range(len(sizes)))
    least = min(cost(partition, sizes, run_cost) for partition in partitions(list(range(len(sizes)))))
    assert cost(groups, sizes, run_cost) == least


def test_rows_of_a_size_stay_together_in_their_order_and_the_shortest_come_first() -> None:
    assert groups_by_size([20] * 16) == [list(range(16))]
    assert groups_by_size([250, 10, 250, 10]) == [[1, 3], [0, 2]]
    assert groups_by_size([]) == []


def test_only_texts_have_a_size() -> None:
    assert size_of("x" * 45, 256) == pytest.approx(10)
    assert size_of("x" * 99_999, 256) == 256
    assert [size_of(item, 256) for item in (None, b"bytes", [1, 2], "")] == [0, 0, 0, 0]


def test_only_texts_are_padded(tiny_bundle: Path, tiny_image_bundle: Path, tiny_language_bundle: Path) -> None:
    folders = (tiny_bundle, tiny_image_bundle, tiny_language_bundle)
    assert [longest_row(read_bundle(folder)) for folder in folders] == [48, 0, 0]
