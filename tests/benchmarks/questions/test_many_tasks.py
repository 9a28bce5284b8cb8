from __future__ import annotations

from itertools import islice, pairwise
from pathlib import Path

import pytest

from benchmarks.questions.many_tasks import COLD, NP_LOAD, PEFT, WARM, Plan, drawn, measure, named

PLAN = Plan(counts=(1, 3), peft_counts=(1,), memory_tasks=3, rounds=2, sessions=1, processes=1)


def test_everything_is_measured(tiny_bundle: Path, tiny_backbone: Path) -> None:
    found = measure(tiny_bundle, tiny_backbone, PLAN, threads=1)
    samples = {one.name: one.samples for one in found.series}
    assert len(samples) == len(found.series)
    for engine in ("onnxruntime", "openvino"):
        assert named(f"{engine}: {WARM}", 1) in samples
        assert named(f"{engine}: {COLD}", 1) not in samples
        assert len(samples[named(f"{engine}: {NP_LOAD}", 3)]) == 2
    assert samples[named(PEFT, 1)]
    for ratio in found.ratios:
        assert not ratio.paired or len(samples[ratio.top]) == len(samples[ratio.bottom])
    assert {name for chart in found.charts for name in chart.series} <= samples.keys()
    assert list(found.left_out) == [named(PEFT, 3)]
    assert sum(ratio.goal is not None for ratio in found.ratios) == 6
    one, both = (
        samples[f"onnxruntime: resident memory, 1 task{end}"] for end in ("", " plus the bytes of the further prompts")
    )
    assert both[0] - one[0] == pytest.approx(2 * 16 * 32 * 4 / 1e6)


def test_no_name_is_drawn_twice_in_a_row() -> None:
    names = list(islice(drawn(3), 50))
    assert set(names) == {"task0", "task1", "task2"}
    assert all(before != after for before, after in pairwise(names))
    assert list(islice(drawn(1), 2)) == ["task0", "task0"]
