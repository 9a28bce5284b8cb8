from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers.process import Worker, WorkerError
from edge_prompt_runtime import Runtime
from tests.tiny.language import HIDDEN_SIZE

REQUEST, NEW_TOKENS = [5, 6, 7], 24


def test_a_worker_gives_the_runtimes_output(tiny_language_bundle: Path, engine: str, tmp_path: Path) -> None:
    prompt = tmp_path / "prompt.npy"
    np.save(prompt, np.random.default_rng(0).standard_normal((5, HIDDEN_SIZE)).astype(np.float32))
    runtime = Runtime(tiny_language_bundle, engine)
    runtime.load("prompt", prompt)
    arguments = ("--model", str(tiny_language_bundle), "--engine", engine)
    said = {}
    for task, more in {None: (), "prompt": ("--prompt", str(prompt))}.items():
        with Worker("tiny", "edge_prompt", None, (*arguments, *more)) as worker:
            answers = [worker.ask({"tokens": REQUEST, "new_tokens": NEW_TOKENS}) for _ in range(2)]
            memory = worker.stop()
        expected = runtime.generate(REQUEST, task, max_new_tokens=NEW_TOKENS, ignore_eos=True)
        assert not isinstance(expected, list)
        assert [answer["tokens"] for answer in answers] == [list(expected.tokens)] * 2
        assert all(0 < answer["first_ms"] <= answer["all_ms"] for answer in answers)
        assert worker.load_ms > 0
        assert engine in worker.versions
        assert 0 < memory["anonymous_bytes"] < memory["peak_bytes"]
        said[task] = expected.tokens
    assert said[None] != said["prompt"]


def test_a_worker_reports_what_it_cannot_load(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match=r"tiny: MissingFileError: .*edge_prompt\.json"):
        Worker("tiny", "edge_prompt", None, ("--model", str(tmp_path), "--engine", "onnxruntime"))


def test_a_worker_that_does_not_start_is_reported() -> None:
    with pytest.raises(WorkerError, match="the process ended"):
        Worker("tiny", "no_such_worker", None, ())


def test_fewer_tokens_than_asked_for_are_an_error(tiny_language_bundle: Path) -> None:
    with (
        Worker(
            "tiny", "edge_prompt", None, ("--model", str(tiny_language_bundle), "--engine", "onnxruntime")
        ) as worker,
        pytest.raises(WorkerError, match="InputError"),
    ):
        worker.ask({"tokens": REQUEST, "new_tokens": 10_000})


def test_memory_is_split_by_its_backing() -> None:
    with Worker("memory", "bandwidth", None, ()) as worker:
        answer = worker.ask({})
    assert answer["bytes_per_second"] > 0
    assert answer["by"]
