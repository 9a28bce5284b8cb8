from __future__ import annotations

import math
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from edge_prompt_runtime.bench.comparison import Change, change_of, compare, stretch
from edge_prompt_runtime.bench.comparison_table import print_comparison
from edge_prompt_runtime.bench.results import Series
from tests.runtime.bench.test_results import results

TRIALS = 200
OF_TWENTY = 1 - 0.05 / 20


def latencies(random: np.random.Generator, count: int, scale: float = 10.0, memory: float = 0.0) -> tuple[float, ...]:
    """Times with a long tail; with a `memory`, 0 to 1, each resembles the one before."""
    noise = random.standard_normal(count)
    for place in range(1, count):
        noise[place] = memory * noise[place - 1] + math.sqrt(1 - memory**2) * noise[place]
    return tuple(scale * np.exp(0.1 * noise))


def share_told(count: int, times: float = 1.0, memory: float = 0.0, trials: int = TRIALS) -> tuple[float, float]:
    """Return the shares of pairs of runs with a reported change in one of twenty comparisons, and with a perhaps."""
    random, told, said = np.random.default_rng(0), 0, 0
    for _ in range(trials):
        old, new = (latencies(random, count, scale, memory) for scale in (10.0, 10.0 * times))
        change = changed(old, new)
        told += change.told
        said += change.told or change.perhaps
    return told / trials, said / trials


def changed(old: tuple[float, ...], new: tuple[float, ...], *, higher_is_better: bool = False) -> Change:
    before, after = (Series("a", "ms", samples, higher_is_better=higher_is_better) for samples in (old, new))
    return change_of(before, after, OF_TWENTY)


@pytest.mark.parametrize("count", [5, 20, 100])
def test_equal_runs_differ_no_more_often_than_stated(count: int) -> None:
    told, said = share_told(count)
    assert said <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / TRIALS)
    assert told <= 0.0025 + 3 * math.sqrt(0.0025 / TRIALS)


def test_ten_percent_more_is_detected() -> None:
    assert share_told(100, times=1.1, trials=100)[0] > 0.9
    assert share_told(20, times=1.2, trials=100)[0] > 0.8


def test_autocorrelated_samples_carry_less_information() -> None:
    random = np.random.default_rng(1)
    alone = [stretch(latencies(random, 200)) for _ in range(50)]
    alike = [stretch(latencies(random, 200, memory=0.9)) for _ in range(50)]
    assert 1 <= np.median(alone) < 1.25
    assert 2 < np.median(alike) < math.sqrt(19)  # that of the samples themselves; less for being above the median
    assert stretch((3.0,) * 50) == 1
    assert share_told(200, memory=0.5, trials=100)[0] <= 0.04


@pytest.mark.parametrize(
    ("old", "new", "higher_is_better", "said"),
    [
        ((1.0,) * 9, (1.25,) * 9, False, "25.0% more, worse"),
        ((1.0,) * 9, (1.25,) * 9, True, "25.0% more, better"),
        ((1.0,) * 9, (0.5,) * 9, False, "50.0% less, better"),
        ((1.0,) * 9, (1.0,) * 9, False, "no significant difference"),
        ((1.0, 2.0, 3.0, 4.0, 5.0), (1.1, 2.1, 3.1, 4.1, 5.1), False, "no significant difference"),
        ((1.0,) * 4, (2.0,) * 9, False, "too few samples"),
        ((-1.0, 1.0, 1.0, 1.0, 1.0), (2.0,) * 5, False, "no ratio: some samples are not positive"),
    ],
)
def test_verdicts_are_worded(old: tuple[float, ...], new: tuple[float, ...], higher_is_better: bool, said: str) -> None:
    assert changed(old, new, higher_is_better=higher_is_better).said == said


def test_the_widened_interval_holds_the_other() -> None:
    random = np.random.default_rng(2)
    change = changed(latencies(random, 30), latencies(random, 30, 10.6))
    assert change.ratio is not None
    assert change.widened is not None
    assert change.widened.low < change.ratio.low < change.ratio.value < change.ratio.high < change.widened.high
    assert change.perhaps is (1 not in change.ratio and 1 in change.widened)


def test_runs_are_compared_by_the_names_and_units_of_their_series() -> None:
    random = np.random.default_rng(0)
    shared = Series("ours", "ms", latencies(random, 50), line="ours")
    old = results(
        series=(shared, Series("gone", "ms", (1.0,)), Series("bytes", "MB", (1.0,))),
        machine={"processor": "this", "cores": 2, "load_average": "0.10"},
        ratios=(),
        charts=(),
    )
    new = results(
        series=(Series("bytes", "B", (1.0,)), Series("ours", "ms", tuple(2 * x for x in shared.samples))),
        machine={"processor": "another", "cores": 2, "load_average": "9.00"},
        settings={"rounds": 3, "threads": 1},
        versions={},
        ratios=(),
        charts=(),
    )
    found = compare(old, new)
    assert [change.said for change in found.changes] == ["100.0% more, worse"]
    assert (found.only_old, found.only_new, found.confidence) == (("gone", "bytes"), ("bytes",), 0.95)
    machine, versions, settings, busy = found.warnings
    assert machine == "The machine differs: processor was this and is now another."
    assert "numpy was" in versions
    assert settings == "The settings differ: threads was unset and is now 1."
    assert "busy when the new run" in busy
    stream = StringIO()
    print_comparison(found, Console(width=100, file=stream))
    for expected in (
        "What changed since",
        "ours (ms)",
        "100.0% more",
        "Only in the old run: gone, bytes",
        "Warning:",
    ):
        assert expected in stream.getvalue()


def test_a_run_compared_with_itself_has_not_changed() -> None:
    found = compare(results(), results())
    assert not any(change.told or change.perhaps for change in found.changes)
    assert not [warning for warning in found.warnings if "busy" not in warning]


def test_runs_with_nothing_in_common_are_reported() -> None:
    bare = results(series=(Series("other", "ms", (1.0,)),), ratios=(), charts=())
    stream = StringIO()
    print_comparison(compare(results(name="swap"), bare), Console(width=80, file=stream))
    assert "The two runs have no series in common" in stream.getvalue()
