from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest

from benchmarks.lib.adapter_requests import ask, series_of
from benchmarks.lib.switching import NAMES, after_request, same_and_other, tight
from benchmarks.peers.process import Worker, WorkerError
from benchmarks.peers.workers.switching import turned_adapter
from benchmarks.questions.swap import Prefixes, System, measure, require_equal

TOKENS = {"input_ids": np.arange(10, 20)[None]}


def test_everything_is_measured_on_equal_answers(tiny_bundle: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    found = measure(Prefixes(tiny_bundle, tiny_backbone, tmp_path, TOKENS), rounds=2, loads=1, threads=1)
    samples = {one.name: one.samples for one in found.series}
    assert len(samples) == len(found.series)
    for ratio in found.ratios:
        assert {ratio.top, ratio.bottom} <= samples.keys()
        assert not ratio.paired or len(samples[ratio.top]) == len(samples[ratio.bottom])
    assert {name for chart in found.charts for name in chart.series} <= samples.keys()
    assert sum(ratio.goal is not None for ratio in found.ratios) == 4


def test_a_system_with_other_answers_is_not_timed() -> None:
    systems = {str(place): System(lambda _, row=row: row, print) for place, row in enumerate(np.eye(2))}  # type: ignore[misc]
    with pytest.raises(SystemExit, match="under first, 1 is 1 apart from 0"):
        require_equal(systems)


def test_systems_take_turns() -> None:
    asked: list[str] = []

    def request(name: str) -> None:
        asked.append(name)

    def switch(name: str) -> None:
        asked.append(f"-> {name}")

    other = after_request(request, switch, cycle(NAMES))
    assert min(other(), other()) > 0
    same = after_request(request, switch, cycle(NAMES[:1]))
    assert min(same(), same()) > 0
    assert asked == ["first", "-> second", "second", "-> first", *["first", "-> first"] * 2]
    asked.clear()
    assert tight(switch, calls=3)() > 0
    both = same_and_other(request)
    assert min(*both(), *both()) > 0
    assert asked == ["-> first", "-> second", "-> first", "first", "second", "second", "first"]


@pytest.fixture
def prompt(tiny_language_bundle: Path, tmp_path: Path) -> Path:
    from edge_prompt import read_bundle

    shape = [3 if axis is None else axis for axis in read_bundle(tiny_language_bundle).manifest.kinds["soft"]]
    np.save(tmp_path / "prompt.npy", np.random.default_rng(0).standard_normal(shape, dtype=np.float32))
    return tmp_path / "prompt.npy"


@pytest.fixture
def worker(tiny_language_bundle: Path, prompt: Path) -> Iterator[Worker]:
    arguments = ("--model", str(tiny_language_bundle), "--engine", "onnxruntime", "--prompt", str(prompt))
    with Worker("tiny", "switch_edge_prompt", None, arguments) as worker:
        yield worker


def test_a_pipeline_answers_under_both_adapters(worker: Worker) -> None:
    pairs = ask(worker, 2, most_tokens=40)
    same, other, difference = series_of("tiny", pairs)
    assert len(same.samples) == len(other.samples) == 2
    assert difference.samples[0] == pytest.approx(other.samples[0] - same.samples[0])
    pairs[0][1]["switch_us"] = 7.0
    assert series_of("tiny", pairs)[-1].samples == (7.0,)


def test_adapters_without_effect_are_not_timed(tiny_language_bundle: Path, prompt: Path) -> None:
    np.save(prompt, np.zeros_like(np.load(prompt)))
    arguments = ("--model", str(tiny_language_bundle), "--engine", "onnxruntime", "--prompt", str(prompt))
    with (
        Worker("tiny", "switch_edge_prompt", None, arguments) as worker,
        pytest.raises(WorkerError, match="instead of two texts"),
    ):
        ask(worker, 1, most_tokens=40)


def test_a_flipped_adapter_adds_the_opposite(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    arrays = {name: np.full((2, 3), number, np.float32) for number, name in enumerate(("x.lora_A", "x.lora_B"), 1)}
    save_file(arrays, tmp_path / "lora.safetensors")
    turned = load_file(turned_adapter(tmp_path / "lora.safetensors", tmp_path / "turned.safetensors"))
    assert (turned["x.lora_A"] == 1).all()
    assert (turned["x.lora_B"] == -2).all()
