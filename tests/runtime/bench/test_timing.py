from __future__ import annotations

import gc
from collections import Counter
from functools import partial
from itertools import count

import pytest

from edge_prompt_runtime.bench.timing import (
    MOST_WARM_UP_ROUNDS,
    WARM_UP_ROUNDS,
    in_turn,
    interleaved_us,
    ratios_to_neighbours,
    warm_up,
)


def test_every_variant_runs_once_per_round_in_changing_order() -> None:
    calls: list[str] = []

    def call(name: str) -> str:
        calls.append(name)
        return name

    found = in_turn({name: partial(call, name) for name in "abc"}, rounds=20)
    rounds = WARM_UP_ROUNDS + 20
    assert Counter(calls) == dict.fromkeys("abc", rounds)
    orders = {tuple(calls[start : start + 3]) for start in range(0, 3 * rounds, 3)}
    assert all(set(order) == set("abc") for order in orders)
    assert len(orders) > 1
    assert found == {name: [name] * 20 for name in "abc"}


def test_no_garbage_is_collected_while_timing_and_again_afterwards() -> None:
    assert in_turn({"a": gc.isenabled}, rounds=2) == {"a": [False, False]}
    assert gc.isenabled()


def test_a_coarse_clock_gives_one_step_per_call() -> None:
    ticks = count(step=1000)
    found = interleaved_us({"a": lambda: None, "b": lambda: None}, rounds=5, clock=lambda: next(ticks))
    assert found == {"a": (1.0,) * 5, "b": (1.0,) * 5}


def test_warm_up_ends_once_times_are_stable() -> None:
    falling = iter([100.0, 50, 30, 20, 15, 12, 10, 10, 10, 10, 10, 10, 10])
    rounds = warm_up({"falls": lambda: next(falling), "stays": lambda: 7.0})
    assert 2 * WARM_UP_ROUNDS < rounds < MOST_WARM_UP_ROUNDS
    assert warm_up({"stays": lambda: 7.0}) == 2 * WARM_UP_ROUNDS


def test_warm_up_ends_even_if_times_are_never_stable() -> None:
    growing = count(1)
    assert warm_up({"grows": lambda: 2.0 ** next(growing)}) == MOST_WARM_UP_ROUNDS


def test_neighbours_are_those_before_and_after() -> None:
    """On a machine that slows down steadily, a run takes the mean of its neighbours."""
    now = [0]

    def clock() -> int:
        return now[0]

    def takes(factor: int) -> None:
        now[0] += factor * (1_000_000 + now[0] // 10_000)

    tops, bottoms = ratios_to_neighbours(lambda: takes(2), lambda: takes(1), rounds=10, clock=clock)
    assert len(tops) == len(bottoms) == 10
    assert [top / bottom for top, bottom in zip(tops, bottoms, strict=True)] == pytest.approx([2] * 10, rel=1e-3)
