from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.generation import write_samples
from benchmarks.peers.report import Figures, beside_peers, measured, show, with_prompt
from benchmarks.peers.results import Sample
from benchmarks.peers.variants import VARIANTS

BANDWIDTH = 20e9


def figures(index: int, *, ms_a_token: float, first_ms: float = 50.0) -> Figures:
    """Three rounds of a variant, each twice as slow as the one before."""
    samples = [Sample((7,) * 11, slower * first_ms, slower * (first_ms + 10 * ms_a_token)) for slower in (1, 2, 4)]
    return Figures(VARIANTS[index], {"numpy": "2"}, 500_000_000, [100.0], [150.0], samples, 10**9, 10**8)


def cells(table: object) -> list[list[str]]:
    """The rows of a table."""
    return [list(row) for row in zip(*(column.cells for column in table.columns), strict=True)]  # type: ignore[attr-defined]


def place(pipeline: str, adapter: str) -> int:
    """Where the fp32 variant of that pipeline stands."""
    return [(one.pipeline, one.weights, one.adapter) for one in VARIANTS].index((pipeline, "fp32", adapter))


OURS, PROMPTED = place("edge-prompt on ONNX Runtime", ""), place("edge-prompt on ONNX Runtime", "prompt")
SLOW, QUICK = place("OpenVINO GenAI (SDPA)", ""), place("ONNX Runtime GenAI", "")


def test_the_limit_is_bandwidth_over_the_bytes_of_a_token() -> None:
    (row,) = cells(measured([figures(OURS, ms_a_token=20.0)], BANDWIDTH))
    assert row[3:6] == ["100.0", "25.0", "0.62 of 40"]


def test_ours_is_held_to_the_best_peer_in_each_figure() -> None:
    found = [
        figures(OURS, ms_a_token=10.0, first_ms=40.0),
        figures(SLOW, ms_a_token=20.0, first_ms=20.0),
        figures(QUICK, ms_a_token=12.0, first_ms=80.0),
    ]
    (row,) = cells(beside_peers(found))
    assert row[1:3] == ["1.20 (ONNX Runtime GenAI)", "2.00"]


def test_a_prompt_is_held_to_the_same_pipeline_without() -> None:
    found = [figures(OURS, ms_a_token=10.0), figures(PROMPTED, ms_a_token=11.0), figures(QUICK, ms_a_token=12.0)]
    (row,) = cells(with_prompt(found))
    assert row[:3] == [VARIANTS[PROMPTED].name, "1.100", "1.000"]


def test_what_is_left_out_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    show([figures(OURS, ms_a_token=10.0)], BANDWIDTH, {"another": "it is not there"})
    printed = capsys.readouterr().out
    assert "LEFT OUT: another: it is not there" in printed
    assert "numpy 2" in printed


def test_all_samples_are_written(tmp_path: Path) -> None:
    one = figures(OURS, ms_a_token=10.0)
    write_samples(tmp_path / "samples.json", [one], [BANDWIDTH], {"another": "why"})
    written = json.loads((tmp_path / "samples.json").read_text())
    assert written["left_out"] == {"another": "why"}
    assert written["variants"][one.variant.name]["first_ms"] == [50.0, 100.0, 200.0]
