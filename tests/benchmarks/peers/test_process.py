from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers.process import Worker, WorkerError
from benchmarks.peers.unending import unending
from edge_prompt.base.errors import ManifestError
from edge_prompt.formats.manifest import MANIFEST_NAME
from edge_prompt.storage.files import read_json, sha256_of, write_json
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.generation.model_defaults import GENERATION_CONFIG_NAME
from edge_prompt_runtime.generation.results import Generation
from tests.tiny.language import HIDDEN_SIZE

REQUEST, NEW_TOKENS = [5, 6, 7], 24


@pytest.fixture
def endless(tiny_language_bundle: Path) -> Path:
    """The tiny bundle without an end token, in the same folder, so that its files can be linked."""
    return unending(tiny_language_bundle, tiny_language_bundle.parent / "endless")


def test_a_worker_gives_the_runtimes_output(endless: Path, engine: str, tmp_path: Path) -> None:
    prompt = tmp_path / "prompt.npy"
    np.save(prompt, np.random.default_rng(0).standard_normal((5, HIDDEN_SIZE)).astype(np.float32))
    runtime = Runtime(endless, engine)
    runtime.load("prompt", prompt)
    arguments = ("--model", str(endless), "--engine", engine)
    said = {}
    for task, more in {None: (), "prompt": ("--prompt", str(prompt))}.items():
        with Worker("tiny", "edge_prompt", None, (*arguments, *more)) as worker:
            answers = [worker.ask({"tokens": REQUEST, "new_tokens": NEW_TOKENS}) for _ in range(2)]
            memory = worker.stop()
        expected = runtime.generate(REQUEST, task, max_new_tokens=NEW_TOKENS)
        assert not isinstance(expected, list)
        assert [answer["tokens"] for answer in answers] == [list(expected.tokens)] * 2
        assert all(0 < answer["first_ms"] <= answer["all_ms"] for answer in answers)
        assert worker.load_ms > 0
        assert engine in worker.versions
        assert 0 < memory["anonymous_bytes"] < memory["peak_bytes"]
        said[task] = expected.tokens
    assert said[None] != said["prompt"]


def test_no_token_ends_a_text(endless: Path, tiny_language_bundle: Path, tmp_path: Path) -> None:
    long = generated(endless)
    bundle = shutil.copytree(tiny_language_bundle, tmp_path / "bundle")
    write_json(bundle / GENERATION_CONFIG_NAME, {"eos_token_id": long.tokens[2]})
    manifest = read_json(bundle / MANIFEST_NAME, ManifestError)
    manifest["files"][GENERATION_CONFIG_NAME] = sha256_of(bundle / GENERATION_CONFIG_NAME)
    write_json(bundle / MANIFEST_NAME, manifest)
    assert generated(bundle).finish_reason == "stop"
    again = generated(unending(bundle, tmp_path))
    assert (again.tokens, again.finish_reason) == (long.tokens, "length")


def generated(bundle: Path) -> Generation:
    answer = Runtime(bundle, "onnxruntime").generate(REQUEST, max_new_tokens=NEW_TOKENS)
    assert not isinstance(answer, list)
    return answer


def test_an_unending_bundle_is_made_once_per_state(tiny_language_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "endless"
    first = unending(tiny_language_bundle, folder)
    inode = (first / "model.onnx").stat().st_ino
    assert inode == (tiny_language_bundle / "model.onnx").stat().st_ino
    assert unending(tiny_language_bundle, folder) == first
    assert [path.name for path in folder.iterdir()] == [first.name]


def test_a_worker_reports_what_it_cannot_load(tmp_path: Path) -> None:
    with pytest.raises(WorkerError, match=r"tiny: MissingFileError: .*edge_prompt\.json"):
        Worker("tiny", "edge_prompt", None, ("--model", str(tmp_path), "--engine", "onnxruntime"))


def test_a_worker_that_does_not_start_is_reported() -> None:
    with pytest.raises(WorkerError, match="the process ended"):
        Worker("tiny", "no_such_worker", None, ())


def test_fewer_tokens_than_asked_for_are_an_error(endless: Path) -> None:
    with (
        Worker("tiny", "edge_prompt", None, ("--model", str(endless), "--engine", "onnxruntime")) as worker,
        pytest.raises(WorkerError, match="InputError"),
    ):
        worker.ask({"tokens": REQUEST, "new_tokens": 10_000})


def test_memory_is_split_by_its_backing() -> None:
    with Worker("memory", "bandwidth", None, ()) as worker:
        answer = worker.ask({})
    assert answer["bytes_per_second"] > 0
    assert answer["by"]
