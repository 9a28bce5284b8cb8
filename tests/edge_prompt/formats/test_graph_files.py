from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

from edge_prompt.base.errors import ManifestError
from edge_prompt.formats.bundle import read_bundle
from edge_prompt.formats.manifest import write_manifest
from edge_prompt.storage.files import sha256_of
from edge_prompt_runtime import Runtime


def changed(folder: Path, engine: str, name: str, change: Callable[[bytes], bytes]) -> None:
    """Change a file of a graph and its digest, as a malicious maker of a bundle could."""
    (folder / name).write_bytes(change((folder / name).read_bytes()))
    manifest = read_bundle(folder).manifest
    graph = manifest.graphs[engine]
    digests = {**graph.sha256, name: sha256_of(folder / name)}
    write_manifest(folder, replace(manifest, graphs={**manifest.graphs, engine: replace(graph, sha256=digests)}))


def with_custom_operator(content: bytes) -> bytes:
    model = onnx.ModelProto.FromString(content)
    model.graph.node[0].domain = "custom.ops"
    return bytes(model.SerializeToString())


def with_weights_outside(content: bytes) -> bytes:
    model = onnx.ModelProto.FromString(content)
    tensor = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(tensor, "../weights.bin")
    tensor.ClearField("raw_data")
    return bytes(model.SerializeToString())


ONNX, OPENVINO = ("onnxruntime", "model.onnx"), ("openvino", "openvino_model.xml")
CHANGES: dict[str, tuple[tuple[str, str], Callable[[bytes], bytes], str]] = {
    "a custom operator in ONNX": (ONNX, with_custom_operator, "of 'custom.ops'; expected operators that export writes"),
    "weights outside of ONNX": (
        ONNX,
        with_weights_outside,
        "weights in '../weights.bin'; expected files that the manifest",
    ),
    "a custom operator in an IR": (
        OPENVINO,
        lambda content: content.replace(b'version="opset1"', b'version="extension"', 1),
        "of 'extension'; expected operators of OpenVINO.s own opsets",
    ),
    "weights outside of an IR": (
        OPENVINO,
        lambda content: content.replace(b' offset="0"', b' offset="99999999"', 1),
        "weights up to byte",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_hostile_graph_is_refused_before_an_engine_sees_it(bundle_copy: Path, name: str) -> None:
    (engine, file), change, message = CHANGES[name]
    (bundle_copy.parent / "weights.bin").write_bytes(bytes(1 << 20))
    changed(bundle_copy, engine, file, change)
    with pytest.raises(ManifestError, match=message):
        Runtime(bundle_copy, engine=engine)


def test_weights_that_the_manifest_does_not_name_are_refused(bundle_copy: Path) -> None:
    manifest = read_bundle(bundle_copy).manifest
    graph = manifest.graphs["openvino"]
    digests = {name: sha256 for name, sha256 in graph.sha256.items() if name.endswith(".xml")}
    graphs = {**manifest.graphs, "openvino": replace(graph, sha256=digests)}
    write_manifest(bundle_copy, replace(manifest, graphs=graphs))
    with pytest.raises(ManifestError, match=r"'openvino_model\.bin', next to .* is not listed in the manifest"):
        Runtime(bundle_copy, engine="openvino")


@pytest.mark.parametrize(("engine", "name"), [("onnxruntime", "model.ort"), ("openvino", "openvino_model.onnx")])
def test_a_file_of_another_format_is_refused(bundle_copy: Path, engine: str, name: str) -> None:
    manifest = read_bundle(bundle_copy).manifest
    graph = manifest.graphs[engine]
    (bundle_copy / name).write_bytes((bundle_copy / graph.file).read_bytes())
    graph = replace(graph, file=name, sha256={**graph.sha256, name: sha256_of(bundle_copy / name)})
    write_manifest(bundle_copy, replace(manifest, graphs={**manifest.graphs, engine: graph}))
    with pytest.raises(ManifestError, match="expected a name that ends in"):
        Runtime(bundle_copy, engine=engine)
