from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.questions.mixed_batch import (
    BY_TASK,
    MIXED,
    ONE,
    SHORTEST,
    SINGLE,
    Plan,
    by_task,
    measure_language,
    measure_texts,
    rates,
    require_equal,
    write_tasks,
)
from edge_prompt_runtime import Runtime

TEXTS = [" ".join(f"w{number + word}" for word in range(1 + number % 9)) for number in range(32)]


def test_every_variant_is_measured(tiny_bundle: Path) -> None:
    plan = Plan(("prefix", "soft"), rounds=2, warm_up_rounds=1, language_rounds=0)
    found = measure_texts(tiny_bundle, TEXTS, plan, threads=1, lengths={"equal": (3,), "mixed": (1, 5)})
    names = {one.name for one in found.series}
    for engine in ("onnxruntime", "openvino"):
        for kind in ("prefix", "soft"):
            ways = {name.partition(": ")[2] for name in names if name.startswith(f"{engine}, {kind}, equal")}
            assert ways >= {MIXED, SINGLE, ONE, BY_TASK}
            assert SHORTEST not in ways
            assert f"{engine}, {kind}, mixed lengths: {SHORTEST}" in names
    assert all(ratio.top in names and ratio.bottom in names for ratio in found.ratios)
    assert sum(ratio.goal is not None for ratio in found.ratios) == 8


def test_a_language_model_is_measured(tiny_language_bundle: Path) -> None:
    found = measure_language(tiny_language_bundle, rounds=2, threads=1, virtual_tokens=3, most_tokens=40)
    assert len(found.series) == 6
    assert all(len(one.samples) == 2 for one in found.series)


def test_a_variant_with_other_answers_is_not_timed(tiny_bundle: Path, tmp_path: Path) -> None:
    runtime = Runtime(tiny_bundle, "onnxruntime", threads=1)
    tasks = write_tasks(tiny_bundle, tmp_path, "prefix", (3,))
    runtime.load_all(tmp_path)
    answers = runtime.classify(TEXTS[:8], list(tasks))
    require_equal("tiny", answers, answers)
    with pytest.raises(SystemExit, match="tiny: row 0 is"):
        require_equal("tiny", answers, answers[::-1])


def test_rows_are_counted() -> None:
    assert rates(8, [2e6, 4e6]) == (4.0, 2.0)
    assert by_task("abc", ["x", "y", "x"]) == {"x": ["a", "c"], "y": ["b"]}
