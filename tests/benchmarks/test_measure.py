from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.measure import WARM_UP_ROUNDS, Samples, interleaved


def test_every_variant_runs_once_a_round() -> None:
    calls: list[str] = []
    samples = interleaved({name: lambda name=name: calls.append(name) for name in "abc"}, rounds=20)  # type: ignore[misc]
    rounds = WARM_UP_ROUNDS + 20
    assert Counter(calls) == dict.fromkeys("abc", rounds)
    assert all(set(calls[start : start + 3]) == set("abc") for start in range(0, 3 * rounds, 3))
    assert {name: len(times.us) for name, times in samples.items()} == dict.fromkeys("abc", 20)


def test_the_order_changes() -> None:
    calls: list[str] = []
    interleaved({name: lambda name=name: calls.append(name) for name in "abc"}, rounds=20)  # type: ignore[misc]
    assert len({tuple(calls[start : start + 3]) for start in range(0, len(calls), 3)}) > 1


def test_median_and_quartiles() -> None:
    samples = Samples(tuple(map(float, range(1, 102))))
    assert samples.median_us == 51
    assert samples.spread_us == pytest.approx((25.5, 76.5))
