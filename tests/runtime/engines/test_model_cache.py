from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_prompt.base.errors import InputError
from edge_prompt.formats.bundle import read_bundle
from edge_prompt.storage.files import read_json, write_json
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.engines.model_cache import MADE_FOR_NAME, folder_of, machine
from edge_prompt_runtime.engines.options import CACHE_PRECISIONS


def embedding(bundle: Path, engine: str, cache: Path | None) -> np.ndarray:
    return np.asarray(Runtime(bundle, engine, threads=1, model_cache=cache).embed("the oil price"))


@pytest.fixture
def folder(tiny_bundle: Path, engine: str, tmp_path: Path) -> Path:
    embedding(tiny_bundle, engine, tmp_path)
    (folder,) = tmp_path.iterdir()
    return folder


def test_a_cached_graph_is_reused_with_the_same_answers(tiny_bundle: Path, engine: str, folder: Path) -> None:
    files = sorted(path.relative_to(folder) for path in folder.rglob("*"))
    assert len(files) > 1
    written = {path: (folder / path).stat().st_mtime_ns for path in files}
    found = embedding(tiny_bundle, engine, folder.parent)
    np.testing.assert_allclose(found, embedding(tiny_bundle, engine, None), atol=1e-6)
    assert {path: (folder / path).stat().st_mtime_ns for path in files} == written


@pytest.mark.parametrize("changed", ["engine", "machine"])
def test_a_cache_for_something_else_is_discarded(changed: str, tiny_bundle: Path, engine: str, folder: Path) -> None:
    made_for = read_json(folder / MADE_FOR_NAME, InputError)  # type: ignore[arg-type]
    assert made_for["machine"] == machine()
    write_json(folder / MADE_FOR_NAME, {**made_for, changed: "another"})
    (folder / "of_another").write_text("")
    embedding(tiny_bundle, engine, folder.parent)
    assert not (folder / "of_another").exists()
    assert read_json(folder / MADE_FOR_NAME, InputError) == made_for  # type: ignore[arg-type]


def test_a_cache_without_a_stamp_is_discarded(tiny_bundle: Path, engine: str, folder: Path) -> None:
    (folder / MADE_FOR_NAME).write_text("{")
    (folder / "of_another").write_text("")
    embedding(tiny_bundle, engine, folder.parent)
    assert not (folder / "of_another").exists()


def test_an_unreadable_cache_is_rebuilt(tiny_bundle: Path, engine: str, folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file() and path.name != MADE_FOR_NAME:
            path.chmod(0o600)
            path.write_bytes(b"no graph")
    found = embedding(tiny_bundle, engine, folder.parent)
    np.testing.assert_allclose(found, embedding(tiny_bundle, engine, None), atol=1e-6)


def test_every_graph_has_a_folder_of_its_own(tiny_bundle: Path, tiny_language_bundle: Path, tmp_path: Path) -> None:
    graphs = [
        read_bundle(bundle).graph(engine)
        for bundle in (tiny_bundle, tiny_language_bundle)
        for engine in ("onnxruntime", "openvino")
    ]
    assert len({folder_of(tmp_path, graph) for graph in graphs}) == 4


def test_a_language_model_generates_the_same_from_the_cache(
    tiny_language_bundle: Path, engine: str, tmp_path: Path
) -> None:
    reference = Runtime(tiny_language_bundle, engine, threads=1).generate("the oil", max_new_tokens=9)
    for _ in range(2):
        kept = Runtime(tiny_language_bundle, engine, threads=1, model_cache=tmp_path)
        assert kept.generate("the oil", max_new_tokens=9) == reference


@pytest.mark.parametrize("precision", CACHE_PRECISIONS)
def test_keys_and_values_may_have_lower_precision(
    precision: str, tiny_language_bundle: Path, make_prompt: Callable[..., Path]
) -> None:
    prompt = make_prompt("prefix", "prefix", length=40, bundle=tiny_language_bundle)
    runtimes = [
        Runtime(tiny_language_bundle, "openvino", threads=1, cache_precision=name) for name in ("f32", precision)
    ]
    logits = []
    for runtime in runtimes:
        runtime.load("prefix", prompt)
        feeds = {"input_ids": np.array([[5, 6, 7]]), "attention_mask": np.ones((1, 3), np.int64)}
        logits.append(runtime.infer(feeds, "prefix")["logits"])
    difference = np.abs(logits[1] - logits[0]).max()
    assert 0 < difference <= {"f16": 2e-3, "u8": 5e-2}[precision] * np.abs(logits[0]).max()


@pytest.mark.parametrize(("engine", "precision"), [("onnxruntime", "f16"), ("openvino", "bf16")])
def test_a_precision_that_an_engine_does_not_have_is_refused(
    engine: str, precision: str, tiny_language_bundle: Path
) -> None:
    with pytest.raises(InputError, match=f"of the cache.*{precision}|{precision}.*of the cache"):
        Runtime(tiny_language_bundle, engine, threads=1, cache_precision=precision)
