"""The statistics, on distributions whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_prompt_runtime.bench import statistics
from edge_prompt_runtime.bench.statistics import (
    MOST_SAMPLES,
    Interval,
    median,
    paired_ratio,
    percentile,
    percentile_interval,
    ratio,
)

RUNS = 200
POSITIVE = st.lists(st.floats(0.001, 1e6), min_size=1, max_size=50)


def latencies(seed: int, size: int, center: float = 10.0) -> list[float]:
    """Log-normal times, similar to latencies, with the median `center`."""
    return list(center * np.random.default_rng(seed).lognormal(0, 0.3, size))


def covered(intervals: list[Interval], truth: float) -> float:
    return sum(truth in interval for interval in intervals) / len(intervals)


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "RESAMPLES", 400)


@pytest.mark.usefixtures("few_resamples")
def test_the_median_lies_in_its_interval_as_often_as_stated() -> None:
    found = covered([median(latencies(seed, 60)) for seed in range(RUNS)], 10.0)
    assert 0.90 <= found <= 0.99


@pytest.mark.usefixtures("few_resamples")
def test_a_95th_percentile_lies_in_its_interval() -> None:
    truth = 10 * np.exp(0.3 * 1.6448536)
    found = covered([percentile_interval(latencies(seed, 400), 95) for seed in range(RUNS)], truth)
    assert 0.88 <= found <= 0.99


@pytest.mark.usefixtures("few_resamples")
def test_the_ratio_of_two_runs_lies_in_its_interval() -> None:
    found = [ratio(latencies(2 * seed, 60, 12.0), latencies(2 * seed + 1, 60)) for seed in range(RUNS)]
    assert 0.90 <= covered(found, 1.2) <= 1.0


@pytest.mark.usefixtures("few_resamples")
def test_equal_runs_differ_no_more_often_than_stated() -> None:
    found = [ratio(latencies(2 * seed, 60), latencies(2 * seed + 1, 60)) for seed in range(RUNS)]
    assert sum(1 not in interval for interval in found) / RUNS <= 0.09


def test_pairs_detect_differences_on_a_changing_machine() -> None:
    """Two series differ by 20 percent, on a machine whose speed varies by a factor of four."""
    speed = np.exp(np.cumsum(np.random.default_rng(0).normal(0, 0.3, 80)) % 1.4)
    tops, bottoms = list(1.2 * speed * latencies(1, 80, 1.0)), list(speed * latencies(2, 80, 1.0))
    noisy, paired = ratio(tops, bottoms), paired_ratio(tops, bottoms)
    assert 1.2 in paired
    assert 1.0 not in paired
    assert paired.high - paired.low < noisy.high - noisy.low


def test_pairs_must_be_pairs() -> None:
    with pytest.raises(ValueError, match="zip"):
        paired_ratio([1.0, 2.0], [1.0])


@settings(max_examples=25, deadline=None)
@given(POSITIVE)
def test_an_interval_holds_its_value_and_lies_within_the_samples(samples: list[float]) -> None:
    found = median(samples)
    assert min(samples) <= found.low <= found.value <= found.high <= max(samples)


@settings(max_examples=25, deadline=None)
@given(POSITIVE, st.floats(0.01, 100))
def test_another_unit_changes_nothing(samples: list[float], factor: float) -> None:
    scaled = median([factor * sample for sample in samples])
    assert scaled == pytest.approx([factor * bound for bound in median(samples)], rel=1e-9)
    assert ratio([factor * sample for sample in samples], samples).value == pytest.approx(factor)


def test_the_same_samples_give_the_same_interval() -> None:
    assert median(latencies(3, 100)) == median(latencies(3, 100))


def test_very_many_samples_are_not_too_many() -> None:
    assert 10.0 in median(latencies(4, 20 * MOST_SAMPLES))


def test_one_sample_is_an_interval_of_no_width() -> None:
    assert median([3.0]) == (3.0, 3.0, 3.0)


def test_percentiles() -> None:
    assert [percentile(range(101), share) for share in (0, 50, 95, 100)] == [0, 50, 95, 100]
