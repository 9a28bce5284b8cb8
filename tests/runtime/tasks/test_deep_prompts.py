from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edge_prompt import Bundle, read_bundle
from edge_prompt.base.errors import ManifestError, UnknownEngineError
from edge_prompt.formats.bundle import REFERENCE_NAME
from edge_prompt.formats.manifest import Graph
from edge_prompt.untrusted.npy import read_npz
from edge_prompt_export.modalities.image.network import ConditionedVision
from edge_prompt_export.modalities.registry import load_backbone
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.engines import base as engines
from edge_prompt_runtime.engines.base import Engine
from edge_prompt_runtime.engines.options import EngineOptions
from edge_prompt_runtime.tasks import deep_prompts as folding
from edge_prompt_runtime.tasks.deep_prompts import DeepPromptFolder

DEEP = np.random.default_rng(0).standard_normal((2, 5, 32), dtype=np.float32)


@pytest.fixture
def images(tiny_image_bundle: Path) -> Bundle:
    return read_bundle(tiny_image_bundle)


def folded_by_torch(bundle: Path, deep_prompt: NDArray[np.float32]) -> NDArray[np.float32]:
    module = load_backbone(str(bundle.with_name(f"{bundle.name}_backbone"))).module
    assert isinstance(module, ConditionedVision)
    with torch.no_grad():
        prefix: NDArray[np.float32] = module.fold(torch.from_numpy(deep_prompt)).numpy()[:, :, 0]
    return prefix


def test_an_engine_folds_to_the_prefix_that_torch_folds_to(images: Bundle, engine: str) -> None:
    found = DeepPromptFolder(images, engine)(DEEP)
    assert (found.shape, found.dtype) == ((2, 2, 4, 5, 8), np.dtype(np.float32))
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found, folded_by_torch(images.folder, DEEP), atol=1e-4)


def test_a_runtime_opens_the_fold_graph_once_until_it_is_released(
    tiny_image_bundle: Path, tmp_path: Path, make_prompt: Callable[..., Path], engine: str
) -> None:
    bundle = read_bundle(shutil.copytree(tiny_image_bundle, tmp_path / "bundle"))
    runtime = Runtime(bundle.folder, engine, 1)
    prompts = [make_prompt(name, "deep", bundle=bundle.folder) for name in ("a", "b")]
    runtime.load("a", prompts[0])
    (bundle.folder / bundle.fold_graph(engine).file).unlink()
    runtime.load("b", prompts[1])
    runtime.load_all(prompts[0].parent)
    runtime.release_fold_graph()
    with pytest.raises(ManifestError, match="is missing"):
        runtime.load("a", prompts[0])
    assert runtime.tasks == ("a", "b")


def test_threads_that_fold_at_once_open_one_graph(images: Bundle, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Graph] = []

    def open_graph(bundle: Bundle, graph: Graph, options: EngineOptions) -> Engine:
        opened.append(graph)
        return engines.open_graph(bundle, graph, options)

    monkeypatch.setattr(folding, "open_graph", open_graph)
    fold, together = DeepPromptFolder(images, engine, EngineOptions(1)), Barrier(4)

    def fold_together(_number: int) -> NDArray[np.float32]:
        together.wait()
        return fold(DEEP)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(fold_together, range(4)))
    assert len(opened) == 1
    for prefix in found:
        np.testing.assert_allclose(prefix, DeepPromptFolder(images, engine)(DEEP), atol=1e-5)


def test_prompts_are_folded_in_f32_whatever_the_network_is_computed_in(
    tiny_image_bundle: Path, monkeypatch: pytest.MonkeyPatch, make_prompt: Callable[..., Path]
) -> None:
    opened: list[str] = []

    def open_file(name: str, graph: Path, weights: Path | None, options: EngineOptions) -> Engine:
        opened.append(options.precision)
        return original(name, graph, weights, replace(options, precision="f32"))

    original = engines.open_file
    monkeypatch.setattr(engines, "open_file", open_file)
    Runtime(tiny_image_bundle, "openvino", 1, precision="bf16").load(
        "deep", make_prompt("deep", "deep", bundle=tiny_image_bundle)
    )
    assert opened == ["bf16", "f32"]


def test_one_object_folds_prompts_of_any_length(images: Bundle, engine: str) -> None:
    fold = DeepPromptFolder(images, engine)
    whole = fold(DEEP)
    for length in (1, 3):
        np.testing.assert_allclose(fold(DEEP[:, :length]), whole[:, :, :, :length], atol=1e-5)


def test_nothing_is_opened_before_there_is_something_to_fold(tiny_image_bundle: Path, tmp_path: Path) -> None:
    bundle = read_bundle(shutil.copytree(tiny_image_bundle, tmp_path / "bundle"))
    (bundle.folder / bundle.fold_graph("onnxruntime").file).unlink()
    fold = DeepPromptFolder(bundle, "onnxruntime")
    with pytest.raises(ManifestError, match="is missing"):
        fold(DEEP)


def test_an_altered_fold_graph_is_refused(tiny_image_bundle: Path, tmp_path: Path, engine: str) -> None:
    bundle = read_bundle(shutil.copytree(tiny_image_bundle, tmp_path / "bundle"))
    with (bundle.folder / bundle.fold_graph(engine).file).open("ab") as stream:
        stream.write(b" ")
    with pytest.raises(ManifestError, match="is altered"):
        DeepPromptFolder(bundle, engine)(DEEP)


def test_a_bundle_without_a_fold_graph_folds_nothing(bundle: Bundle, engine: str) -> None:
    with pytest.raises(UnknownEngineError, match="no graph that folds deep prompts"):
        DeepPromptFolder(bundle, engine)(DEEP)


def test_the_reference_holds_a_deep_prompt_as_its_file_would(images: Bundle) -> None:
    kinds = (*images.manifest.kinds, "base")
    names = frozenset({"pixel_values", *images.manifest.kinds, *(f"features_{kind}" for kind in kinds)})
    assert read_npz(images.folder / REFERENCE_NAME, names)["deep"].shape[::2] == (2, 32)
