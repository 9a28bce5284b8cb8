from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.questions import soak
from benchmarks.questions.soak import NEAR, Soak, known_answers, least_distance, write_tasks
from edge_prompt import read_bundle
from edge_prompt_runtime import Runtime


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dozen tasks, half of which are replaced all the time."""
    monkeypatch.setattr(soak, "TASKS", 12)
    monkeypatch.setattr(soak, "REPLACED", 6)


def test_correct_answers_pass_and_another_tasks_answer_fails(
    few: None, tiny_bundle: Path, tmp_path: Path, engine: str
) -> None:
    versions = [tmp_path / "first", tmp_path / "second"]
    write_tasks(versions, read_bundle(tiny_bundle).manifest)
    known = known_answers(tiny_bundle, versions, engine)
    assert least_distance(known) > 10 * NEAR
    served = shutil.copytree(versions[0], tmp_path / "served")
    runtime = Runtime(tiny_bundle, engine, threads=1, prompts=served, prompts_budget_bytes=6000)
    right = Soak(runtime, known, 300, 0)
    right.run(served)
    assert right.counts["requests"] >= 300
    assert (right.counts["wrong"], right.counts["lost"]) == (0, 0)
    assert right.counts["written"] > 0
    assert runtime.stats().evictions > 0
    swapped = dict(zip(known, [*known.values()][::-1], strict=True))
    wrong = Soak(runtime, swapped, 30, 0)
    wrong.run(served)
    assert wrong.counts["wrong"] == wrong.counts["rows"]
