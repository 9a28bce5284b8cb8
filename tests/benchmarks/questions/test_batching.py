from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.questions.batching import compare, measured_on, require_equal, write_tasks
from edge_prompt_runtime import Classification, Runtime

TEXTS = ["w1", "w2 w3", "w4 w5 w6 w7 w8 w9", "w10 " * 30]


@pytest.fixture
def runtime(tiny_bundle: Path, tmp_path: Path, engine: str) -> Runtime:
    runtime = Runtime(tiny_bundle, engine, threads=1)
    write_tasks(tmp_path, runtime)
    runtime.load_all(tmp_path)
    return runtime


def test_every_variant_is_measured_and_published(runtime: Runtime) -> None:
    found = compare(runtime, TEXTS, clients=4, rounds=2, seconds=0.1)
    assert list(found) == ["one at a time", "a thread per client", "batching by task", "the batcher"]
    assert all(latencies for rounds in found.values() for latencies in rounds)
    measured = measured_on(runtime.engine, found, 0.1)
    samples = {one.name: one.samples for one in measured.series}
    for way, rounds in found.items():
        rates = samples[f"{runtime.engine}, {way}: requests per second"]
        assert rates == tuple(len(latencies) / 0.1 for latencies in rounds)
        assert len(samples[f"{runtime.engine}, {way}: latency"]) == sum(map(len, rounds))
    assert {name for chart in measured.charts for name in chart.series} == samples.keys()
    assert len(measured.ratios) == 3


def test_a_variant_with_other_answers_is_not_timed(runtime: Runtime) -> None:
    def another(text: str, task: str) -> Classification:
        return runtime.classify(f"{text} w77", task)

    with pytest.raises(SystemExit, match="wrong: the answer to"):
        require_equal({"wrong": another}, runtime, TEXTS, clients=2)
