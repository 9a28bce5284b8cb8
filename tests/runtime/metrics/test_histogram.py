from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_prompt_runtime.metrics.histogram import BUCKETS, GROWTH, LEAST_NS, Histogram, bucket_of, middle_of

SHARES = (0.0, 0.01, 0.5, 0.95, 0.99, 1.0)
LONGEST_NS = 10**12
DURATIONS = st.lists(st.integers(LEAST_NS, LONGEST_NS), min_size=1, max_size=200)
DISTRIBUTIONS: dict[str, Callable[[np.random.Generator], NDArray[np.float64]]] = {
    "lognormal": lambda random: random.lognormal(15, 1, 5000),
    "exponential": lambda random: random.exponential(5e6, 5000),
    "uniform": lambda random: random.uniform(1e5, 1e9, 5000),
    "two kinds": lambda random: np.concatenate([random.normal(2e6, 1e5, 4900), random.normal(9e8, 1e7, 100)]),
    "constant": lambda random: np.full(100, 7e6),
}


def of(durations: list[int]) -> Histogram:
    histogram = Histogram()
    for duration in durations:
        histogram.record(duration)
    return histogram


def state(histogram: Histogram) -> tuple[object, ...]:
    slots = (getattr(histogram, name) for name in ("count", "total_ns", "least_ns", "greatest_ns"))
    return (*slots, histogram._counts)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_quantiles_of_a_known_distribution_are_those_of_numpy_within_a_bucket(name: str) -> None:
    durations = np.maximum(DISTRIBUTIONS[name](np.random.default_rng(0)), LEAST_NS).astype(int)
    histogram = of(durations.tolist())
    for share in SHARES:
        wanted = float(np.quantile(durations, share, method="inverted_cdf"))
        assert wanted / GROWTH**0.51 <= histogram.quantile_ns(share) <= wanted * GROWTH**0.51


@given(DURATIONS, st.floats(0, 1))
def test_a_quantile_is_that_of_numpy_within_half_a_bucket(durations: list[int], share: float) -> None:
    wanted = sorted(durations)[max(1, int(np.ceil(share * len(durations)))) - 1]
    found = of(durations).quantile_ns(share)
    assert wanted / GROWTH**0.51 <= found <= wanted * GROWTH**0.51


@given(st.lists(st.integers(0, 10**18), min_size=1), st.floats(0, 1), st.floats(0, 1))
def test_quantiles_rise_and_lie_between_the_least_and_the_greatest(
    durations: list[int], one: float, other: float
) -> None:
    histogram = of(durations)
    low, high = sorted((one, other))
    assert min(durations) <= histogram.quantile_ns(low) <= histogram.quantile_ns(high) <= max(durations)
    assert (histogram.least_ns, histogram.greatest_ns) == (min(durations), max(durations))
    assert (histogram.count, histogram.total_ns) == (len(durations), sum(durations))


@given(st.lists(st.integers(0, 10**15)), st.lists(st.integers(0, 10**15)))
def test_merging_is_recording_together_in_any_order(one: list[int], other: list[int]) -> None:
    merged, reverse, added = of(one), of(other), of(other)
    merged.merge(added)
    reverse.merge(of(one))
    assert state(merged) == state(reverse) == state(of([*one, *other]))
    assert state(added) == state(of(other))


@given(st.integers(0, 10**18))
def test_a_latency_lies_in_its_bucket(duration: int) -> None:
    bucket = bucket_of(duration)
    assert 0 <= bucket < BUCKETS
    if LEAST_NS <= duration <= LONGEST_NS:
        assert middle_of(bucket) / GROWTH**0.51 <= duration <= middle_of(bucket) * GROWTH**0.51


def test_a_thousand_seconds_find_a_bucket_of_their_own() -> None:
    assert bucket_of(10**12) == BUCKETS - 1
    assert bucket_of(int(10**12 / GROWTH)) == BUCKETS - 2


def test_nothing_recorded_is_nothing() -> None:
    assert [Histogram().quantile_ns(share) for share in SHARES] == [0.0] * len(SHARES)
