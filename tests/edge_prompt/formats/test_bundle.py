from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edge_prompt.base.errors import ManifestError, MissingFileError, UnknownEngineError, UnsafePathError
from edge_prompt.formats.bundle import REFERENCE_NAME, TOKENIZER_NAME, read_bundle
from edge_prompt.formats.manifest import MANIFEST_NAME
from edge_prompt.storage.files import sha256_of

GRAPH_FILES = {"onnxruntime": "model.onnx", "openvino": "openvino_model.xml"}


def open_files(folder: Path, engine: str) -> tuple[Path, Path | None]:
    bundle = read_bundle(folder)
    return bundle.files_of(bundle.graph(engine))


def test_a_bundle_is_read(bundle_copy: Path) -> None:
    bundle = read_bundle(bundle_copy)
    assert bundle.folder == bundle_copy
    assert bundle.manifest.kinds == {"soft": (None, 32), "prefix": (2, 2, 4, None, 8)}


def test_a_bundle_has_the_digest_of_every_file(bundle_copy: Path) -> None:
    files = {file.name: sha256_of(file) for file in bundle_copy.iterdir()}
    assert read_bundle(bundle_copy).sha256 == files


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="nowhere: no such folder; expected a bundle"):
        read_bundle(tmp_path / "nowhere")


def test_a_folder_without_a_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"no edge_prompt\.json in it; expected a bundle"):
        read_bundle(tmp_path)


def test_a_folder_in_place_of_the_manifest_is_refused(tmp_path: Path) -> None:
    (tmp_path / MANIFEST_NAME).mkdir()
    with pytest.raises(MissingFileError):
        read_bundle(tmp_path)


def test_the_graph_of_an_engine_is_found(bundle_copy: Path, engine: str) -> None:
    bundle = read_bundle(bundle_copy)
    graph = bundle.graph(engine)
    assert graph.engine == engine
    assert bundle.files_of(graph)[0] == bundle_copy / GRAPH_FILES[engine]


@pytest.mark.parametrize("weights_file", [None, "openvino_model.bin"])
def test_the_weights_file_is_found_if_the_engine_needs_its_name(bundle_copy: Path, weights_file: str | None) -> None:
    bundle = read_bundle(bundle_copy)
    graph = replace(bundle.graph("openvino"), weights_file=weights_file)
    wanted = None if weights_file is None else bundle_copy / weights_file
    assert bundle.files_of(graph) == (bundle_copy / "openvino_model.xml", wanted)


def test_a_weights_file_outside_the_bundle_is_refused(bundle_copy: Path) -> None:
    (bundle_copy.parent / "model.bin").touch()
    bundle = read_bundle(bundle_copy)
    with pytest.raises(UnsafePathError):
        bundle.files_of(replace(bundle.graph("openvino"), weights_file="../model.bin"))


def test_the_graph_that_folds_for_an_engine_is_found(bundle_copy: Path, engine: str) -> None:
    bundle = read_bundle(bundle_copy)
    fold_graphs = {name: replace(graph, file="fold") for name, graph in bundle.manifest.graphs.items()}
    folding = replace(bundle, manifest=replace(bundle.manifest, fold_graphs=fold_graphs))
    assert folding.fold_graph(engine) == fold_graphs[engine]
    with pytest.raises(
        UnknownEngineError, match="folds deep prompts for the engine 'abacus'; expected one of onnxruntime"
    ):
        folding.fold_graph("abacus")


def test_a_missing_fold_graph_is_reported(bundle_copy: Path, engine: str) -> None:
    with pytest.raises(
        UnknownEngineError, match=f"no graph that folds deep prompts for the engine '{engine}'; expected one"
    ):
        read_bundle(bundle_copy).fold_graph(engine)


def test_an_engine_without_a_graph_is_refused(bundle_copy: Path) -> None:
    with pytest.raises(UnknownEngineError, match="no graph for the engine 'abacus'; expected one of onnxruntime, op"):
        read_bundle(bundle_copy).graph("abacus")


@pytest.mark.parametrize("file", ["openvino_model.xml", "openvino_model.bin"])
def test_a_missing_graph_is_named(bundle_copy: Path, file: str) -> None:
    (bundle_copy / file).unlink()
    with pytest.raises(ManifestError, match=f"{file} is missing"):
        open_files(bundle_copy, "openvino")


@pytest.mark.parametrize("file", ["openvino_model.xml", "openvino_model.bin"])
def test_an_altered_graph_is_named(bundle_copy: Path, file: str) -> None:
    with (bundle_copy / file).open("r+b") as stream:
        stream.seek(100)
        stream.write(b"!")
    with pytest.raises(ManifestError, match=f"{file} is altered"):
        open_files(bundle_copy, "openvino")


def test_a_graph_that_is_a_folder_is_missing(bundle_copy: Path) -> None:
    (bundle_copy / "model.onnx").unlink()
    (bundle_copy / "model.onnx").mkdir()
    with pytest.raises(ManifestError, match=r"model\.onnx is missing"):
        open_files(bundle_copy, "onnxruntime")


@pytest.mark.parametrize("place", [lambda path: f"../{path.name}", str], ids=["climbing", "absolute"])
def test_a_graph_outside_the_bundle_is_refused(bundle_copy: Path, place: Callable[[Path], str]) -> None:
    outside = bundle_copy.parent / "model.onnx"
    (bundle_copy / "model.onnx").rename(outside)
    manifest = bundle_copy / MANIFEST_NAME
    manifest.write_text(manifest.read_text().replace('"model.onnx"', json.dumps(place(outside))))
    with pytest.raises(UnsafePathError):
        open_files(bundle_copy, "onnxruntime")


def test_a_graph_behind_a_link_out_of_the_bundle_is_refused(bundle_copy: Path) -> None:
    outside = bundle_copy.parent / "model.onnx"
    (bundle_copy / "model.onnx").rename(outside)
    (bundle_copy / "model.onnx").symlink_to(outside)
    with pytest.raises(UnsafePathError):
        open_files(bundle_copy, "onnxruntime")


@pytest.mark.parametrize("name", [TOKENIZER_NAME, REFERENCE_NAME, "config.json"])
def test_a_file_next_to_the_graphs_is_found(bundle_copy: Path, name: str) -> None:
    assert read_bundle(bundle_copy).file(name) == bundle_copy / name


def test_a_file_that_the_manifest_does_not_name_is_ignored(bundle_copy: Path) -> None:
    (bundle_copy / "surplus.json").touch()
    assert read_bundle(bundle_copy).file("surplus.json") is None


@pytest.mark.parametrize("state", ["missing", "altered"])
def test_a_file_that_is_missing_or_altered_is_named(bundle_copy: Path, state: str) -> None:
    path = bundle_copy / TOKENIZER_NAME
    path.unlink()
    if state == "altered":
        path.write_text("{}")
    with pytest.raises(ManifestError, match=f"{TOKENIZER_NAME} is {state}"):
        read_bundle(bundle_copy).file(TOKENIZER_NAME)


def test_a_file_outside_the_bundle_is_refused(bundle_copy: Path) -> None:
    bundle = read_bundle(bundle_copy)
    files = {"../secret": "0" * 64}
    with pytest.raises(UnsafePathError):
        replace(bundle, manifest=replace(bundle.manifest, files=files)).file("../secret")
