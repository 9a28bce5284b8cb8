from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.lib import stored_weights
from benchmarks.lib.stored_weights import WAYS, shipped
from benchmarks.questions import weights
from benchmarks.questions.weights import charts_of, chosen_bundles, measure_on
from edge_prompt import read_bundle, write_prompt
from examples.real_language import LanguageTask, Question
from tests.benchmarks.written import written


@pytest.fixture
def source(tiny_language_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny bundle in place of the real one; derived bundles go to a folder of their own."""
    monkeypatch.setattr(stored_weights, "smollm2_bundle", lambda: tiny_language_bundle)
    for module in (stored_weights, weights):
        monkeypatch.setattr(module, "kept", lambda engine, name: tmp_path / f"{engine}, {name}")
    return tiny_language_bundle


def test_speed_and_losses_of_small_weights_are_measured(source: Path, engine: str, tmp_path: Path) -> None:
    left_out: dict[str, str] = {}
    bundles = chosen_bundles(engine, "int8", left_out, every=False, make=True)
    assert len(bundles) == 2
    assert left_out == {}
    manifest = read_bundle(source).manifest
    width = manifest.kinds["soft"][1]
    assert width is not None
    prompt = tmp_path / "topics.npy"
    random = np.random.default_rng(0)
    write_prompt(prompt, random.standard_normal((3, width), dtype=np.float32), "soft", manifest.backbone.fingerprint)
    questions = [Question("some words", "red"), Question("other words", "blue")]
    task = LanguageTask([], questions, ("red", "blue"), "Which colour?")
    rows = [random.integers(5, 300, 20)]
    found = measure_on(engine, bundles, [5, 6, 7], rows, prompt, task, 2, 1)
    values = {one.name: one.samples[0] for one in found.series}
    assert values[f"{engine}, fp32: divergence from fp32"] == pytest.approx(0, abs=1e-6)
    assert values[f"{engine}, fp32: same token as fp32"] == 100
    (small,) = bundles.keys() - {"fp32"}
    assert 0 < values[f"{engine}, {small}: divergence from fp32"] < 1
    assert values[f"{engine}, {small}: files"] < values[f"{engine}, fp32: files"]
    assert values[f"{engine}, {small}: topics accuracy"] in {0, 50, 100}
    charts = written(found._replace(charts=charts_of(found.series)), tmp_path).charts
    assert [len(chart.series) for chart in charts] == [2] * 4


def test_a_quick_run_reports_missing_bundles_instead_of_making_them(source: Path, engine: str) -> None:
    left_out: dict[str, str] = {}
    assert chosen_bundles(engine, "", left_out, every=False, make=False) == {"fp32": source}
    shipped = [name for name, each in WAYS[engine].items() if each.is_shipped and name != "fp32"]
    assert len(shipped) == 4
    assert list(left_out) == [f"{engine}, {name}" for name in shipped]


@pytest.mark.parametrize("weights", ["fp32", "fp16", "int8", "int4"])
def test_each_kind_of_weights_has_one_shipped_format_without_calibration(engine: str, weights: str) -> None:
    way = WAYS[engine][shipped(engine, weights)]
    assert way == (weights, None, False)
