from __future__ import annotations

import json
import logging
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from edge_prompt.base.errors import EdgePromptError, InputError, UnknownTaskError
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.metrics.exposition import expose
from tests.conftest import MakePrompt

SECRET = "w7 w8 w9"


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.DEBUG, "edge_prompt")
    return caplog


def test_calls_rows_and_errors_are_counted(runtime: Runtime, make_prompt: MakePrompt) -> None:
    runtime.load("spam", make_prompt("spam", classes=2))
    runtime.load("ham", make_prompt("ham", "prefix", classes=3))
    runtime.classify(SECRET, task="spam")
    runtime.classify([SECRET] * 3, task=["spam", "ham", "spam"])
    runtime.embed(SECRET)
    runtime.infer({"input_ids": np.array([[2, 7, 3]] * 4)}, task="ham")
    with pytest.raises(UnknownTaskError):
        runtime.embed(SECRET, task="eggs")
    with pytest.raises(InputError):
        runtime.detect(SECRET)
    stats = runtime.stats()
    assert {name: (calls.requests, calls.rows, calls.errors) for name, calls in stats.calls.items()} == {
        "classify": (2, 4, 0),
        "embed": (2, 1, 1),
        "infer": (1, 4, 0),
        "detect": (1, 0, 1),
    }
    assert {task.name: (task.requests, task.rows) for task in stats.tasks} == {
        "spam": (2, 3),
        "ham": (2, 5),
        None: (1, 1),
    }
    assert stats.errors == {"UnknownTaskError": 1, "InputError": 1}
    assert stats.total.latency is not None
    assert stats.total.latency.count == 4


def test_held_bytes_count_loaded_prompts(runtime: Runtime, make_prompt: MakePrompt) -> None:
    assert dict(runtime.stats().bytes_held) == {"prompts": 0, "heads": 0}
    runtime.load("spam", make_prompt("spam", length=5, classes=2))
    assert dict(runtime.stats().bytes_held) == {"prompts": 5 * 32 * 4, "heads": 2 * 33 * 4}
    runtime.load("spam", make_prompt("ham", length=7))
    assert dict(runtime.stats().bytes_held) == {"prompts": 7 * 32 * 4, "heads": 0}
    runtime.unload("spam")
    stats = runtime.stats()
    assert dict(stats.bytes_held) == {"prompts": 0, "heads": 0}
    assert (stats.loads, stats.replacements, stats.unloads, stats.evictions) == (2, 1, 1, 0)


def test_a_folder_is_counted_too(tiny_bundle: Path, make_prompt: MakePrompt) -> None:
    folder = {make_prompt(name, classes=2).parent for name in "abc"}.pop()
    (folder / "bad.npy").write_bytes(b"bad")
    runtime = Runtime(tiny_bundle, "onnxruntime", threads=1, prompts=folder, prompts_budget_bytes=1000)
    for name in "abca":
        runtime.classify(SECRET, task=name)
    for _ in range(2):
        with pytest.raises(EdgePromptError):
            runtime.classify(SECRET, task="bad")
    (folder / "a.npy").unlink()
    runtime.refresh()
    stats = runtime.stats()
    assert (stats.loads, stats.evictions, stats.unloads, stats.refusals) == (4, 3, 1, 2)
    assert [refusal.task for refusal in stats.recent_refusals] == ["bad", "bad"]
    assert stats.other.requests == 2  # the calls of `a`, which was unloaded


def test_a_refused_prompt_says_why_in_stats_and_log(
    runtime: Runtime, tmp_path: Path, quiet: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "bad.npy"
    path.write_bytes(b"no array")
    for load in (lambda: runtime.load("bad", path), lambda: runtime.load_all(tmp_path)):
        with pytest.raises(EdgePromptError) as raised:
            load()
        assert runtime.stats().recent_refusals[-1].reason == str(raised.value)
    stats = runtime.stats()
    assert (stats.loads, stats.refusals) == (0, 2)
    assert [record.levelname for record in quiet.records if "refused" in record.message] == ["WARNING", "DEBUG"]


def test_events_are_logged_and_inputs_are_not(
    tiny_bundle: Path, engine: str, make_prompt: MakePrompt, quiet: pytest.LogCaptureFixture
) -> None:
    runtime = Runtime(tiny_bundle, engine, threads=1)
    for name in ("spam", "ham"):
        runtime.load("spam", make_prompt(name, classes=2))
    runtime.classify(SECRET, task="spam")
    runtime.unload("spam")
    with pytest.raises(InputError):
        runtime.label_tokens(SECRET)
    said = quiet.text
    for part in (f"on {engine}", "threads=1", "loaded task 'spam'", "replaced task 'spam'", "unloaded task 'spam'"):
        assert part in said
    assert "w7" not in said
    assert {record.name.partition(".")[0] for record in quiet.records} == {"edge_prompt"}


def test_nothing_is_printed_by_default(runtime: Runtime, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.npy").write_bytes(b"no array")
    with pytest.raises(EdgePromptError):
        runtime.load("bad", tmp_path / "bad.npy")
    assert capfd.readouterr() == ("", "")


def test_generation_counts_tokens_and_the_time_to_the_first_piece(
    tiny_language_bundle: Path, engine: str, make_prompt: MakePrompt
) -> None:
    runtime = Runtime(tiny_language_bundle, engine, threads=1)
    runtime.load("desk", make_prompt("desk", "soft", bundle=tiny_language_bundle))
    ids = {"input_ids": np.array([[5, 6, 7]])}
    runtime.generate(ids, task="desk", max_new_tokens=4, stop_token_ids=())
    pieces = list(runtime.generate(ids, max_new_tokens=3, stop_token_ids=(), stream=True))
    stats = runtime.stats()
    assert (stats.total.requests, stats.tokens, len(pieces)) == (2, 7, 3)
    assert stats.first_piece is not None
    assert stats.first_piece.count == 2
    assert stats.bytes_held["compiled"] > 0


def test_a_runtime_is_exposed(runtime: Runtime, make_prompt: MakePrompt) -> None:
    runtime.load("spam", make_prompt("spam", classes=2))
    runtime.classify(SECRET, task="spam")
    with expose(runtime, 0) as exposition:
        address = f"http://127.0.0.1:{exposition.port}/metrics"
        text = urllib.request.urlopen(address, timeout=10).read().decode()
    assert 'edge_prompt_task_requests_total{of="task",task="spam"} 1.0' in text.splitlines()
    assert json.loads(runtime.stats().to_json())["loads"] == 1
