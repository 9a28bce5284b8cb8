from __future__ import annotations

from datetime import UTC, datetime

import pytest

from benchmarks.lib.publish import Measured
from benchmarks.peers.report import BANDWIDTH, Figures, measured, relative_to_limit, relative_to_peers, with_prompt
from benchmarks.peers.results import Sample
from benchmarks.peers.variants import VARIANTS
from edge_prompt_runtime.bench.results import Ratio, Results

GIGABYTES = 20.0
BANDWIDTHS = [GIGABYTES * 1e9 / slower for slower in (1, 2, 4)]


def figures(index: int, *, ms_a_token: float, first_ms: float = 50.0) -> Figures:
    """Three rounds of a variant, each twice as slow as the one before."""
    samples = [Sample((7,) * 11, slower * first_ms, slower * (first_ms + 10 * ms_a_token)) for slower in (1, 2, 4)]
    return Figures(VARIANTS[index], {"numpy": "2"}, 500_000_000, [100.0], [150.0], samples, 10**9, 10**8, BANDWIDTHS)


def place(pipeline: str, adapter: str, weights: str = "fp32") -> int:
    """Return the index of the variant of that pipeline."""
    return [(one.pipeline, one.weights, one.adapter) for one in VARIANTS].index((pipeline, weights, adapter))


def whole(*found: Figures) -> Measured:
    """All results from figures, in rounds where memory slows down in the same way."""
    return measured(found, {"another": "it is not there"})


def results_of(found: Measured) -> Results:
    now = datetime.now(UTC).isoformat()
    return Results("generation", "How?", now, 0.0, {}, {}, {}, **found._asdict())


def value(found: Measured, ratio: Ratio) -> float:
    return results_of(found).value(ratio).value


OURS, PROMPTED = place("edge-prompt on ONNX Runtime", ""), place("edge-prompt on ONNX Runtime", "prompt")
SLOW, QUICK = place("OpenVINO GenAI (SDPA)", ""), place("ONNX Runtime GenAI", "")


def test_the_limit_is_the_rounds_bandwidth_over_the_bytes_of_a_token() -> None:
    one = figures(OURS, ms_a_token=20.0)
    found = whole(one)
    (ratio,) = relative_to_limit([one])
    assert (ratio.goal, ratio.at_least) == (0.9, True)
    assert value(found, ratio) == pytest.approx(50 / 40)
    assert found.charts[0].limits == {"limit by memory bandwidth": 20.0}
    assert results_of(found).find(f"{BANDWIDTH}, measured with fp32").samples == (20.0, 10.0, 5.0)


def test_ours_is_compared_with_the_best_peer_in_each_figure() -> None:
    every = [
        figures(OURS, ms_a_token=10.0, first_ms=40.0),
        figures(SLOW, ms_a_token=20.0, first_ms=20.0),
        figures(QUICK, ms_a_token=12.0, first_ms=80.0),
    ]
    found = whole(*every)
    decode, first = relative_to_peers(every)[:2]
    assert (decode.bottom, decode.goal, decode.at_least) == ("ONNX Runtime GenAI fp32: decode", 1.0, True)
    assert value(found, decode) == pytest.approx(1.2)
    assert (first.bottom, first.goal, first.at_least) == ("OpenVINO GenAI (SDPA) fp32: first token", 1.0, False)
    assert value(found, first) == pytest.approx(2.0)


def test_the_goal_for_small_weights_compares_our_fastest_with_one_peer() -> None:
    names = ("edge-prompt on ONNX Runtime", "edge-prompt on OpenVINO", "OpenVINO GenAI (PA)", "ONNX Runtime GenAI")
    every = [figures(place(name, "", "int8"), ms_a_token=5.0 + at) for at, name in enumerate(names)]
    goals = {ratio.name: ratio.goal for ratio in relative_to_peers(every) if ": decode, over" in ratio.name}
    assert goals == {
        "edge-prompt on ONNX Runtime int8: decode, over OpenVINO GenAI (PA) int8": 1.05,
        "edge-prompt on OpenVINO int8: decode, over OpenVINO GenAI (PA) int8": None,
    }
    quicker = [*every[:3], figures(place("ONNX Runtime GenAI", "", "int8"), ms_a_token=1.0)]
    assert any("over ONNX Runtime GenAI int8" in ratio.name for ratio in relative_to_peers(quicker))


def test_a_prompt_is_compared_with_the_same_pipeline_without_one() -> None:
    every = [figures(OURS, ms_a_token=10.0), figures(PROMPTED, ms_a_token=11.0), figures(QUICK, ms_a_token=12.0)]
    token, first, *_ = with_prompt(every)
    assert (token.goal, first.goal) == (1.03, 1.03)
    found = whole(*every)
    assert value(found, token) == pytest.approx(1.1)
    assert value(found, first) == pytest.approx(1.0)


def test_every_ratio_and_chart_refers_to_existing_series() -> None:
    found = whole(*(figures(index, ms_a_token=10.0 + index) for index in range(len(VARIANTS))))
    assert len({one.name for one in found.series}) == len(found.series)
    assert len({ratio.name for ratio in found.ratios}) == len(found.ratios)
    assert all(value(found, ratio) > 0 for ratio in found.ratios)
    results = results_of(found)
    assert [{results.find(name).unit for name in chart.series} for chart in found.charts] == 3 * [{"tokens/s"}, {"ms"}]
    assert found.left_out == {"another": "it is not there"}
    assert "numpy 2" in found.notes[0]
