from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_prompt.errors import ManifestError, MissingFileError
from edge_prompt.kinds import KIND_AXES
from edge_prompt.manifest import (
    MANIFEST_FORMAT_VERSION,
    MANIFEST_NAME,
    Backbone,
    Graph,
    Manifest,
    Preprocessing,
    read_manifest,
    write_manifest,
)

DIGEST = "0123456789abcdef" * 4
INPUTS = ("input_ids", "attention_mask", "soft_prompt")
GRAPH = Graph("onnxruntime", "model.onnx", "fp32", INPUTS, ("features",), {"model.onnx": DIGEST})
VALID = Manifest(
    backbone=Backbone("tiny", None, "bert", "BertModel", "feature-extraction", 1000, 32, DIGEST, ("a", "b")),
    graphs={"onnxruntime": GRAPH},
    kinds={"soft": (None, 32), "prefix": (2, 2, 4, None, 8)},
    refused_kinds={},
    preprocessing=Preprocessing(48, 64, 200, 2, 0, "mean", normalize=True),
    files={"tokenizer.json": DIGEST},
    parity={"tolerance": 1e-4},
    versions={"edge-prompt": "0"},
)

texts = st.text(max_size=8)
counts = st.integers(0, 2**31 - 1)
some = st.integers(1, 2**31 - 1)
lengths_of_texts = st.integers(3, 2**31 - 1)
labels = st.lists(texts, max_size=3, unique=True).map(tuple)
digests = st.text("0123456789abcdef", min_size=64, max_size=64)
digest_maps = st.dictionaries(texts, digests, max_size=3)
string_maps = st.dictionaries(texts, texts, max_size=3)


@st.composite
def graphs(draw: st.DrawFn, engine: str) -> Graph:
    file = draw(texts)
    sha256 = {**draw(digest_maps), file: draw(digests)}
    further = draw(st.sets(st.sampled_from(["prefix", "token_type_ids"])))
    outputs = draw(st.sets(texts)) | {"features"}
    return Graph(engine, file, draw(texts), (*INPUTS, *sorted(further)), tuple(sorted(outputs)), sha256)


@st.composite
def kind_shapes(draw: st.DrawFn) -> dict[str, tuple[int | None, ...]]:
    kinds = draw(st.sets(st.sampled_from(sorted(KIND_AXES))))
    fixed = {"num_virtual_tokens": None, "key_value": 2}
    return {
        kind: tuple(fixed[axis] if axis in fixed else draw(some) for axis in KIND_AXES[kind]) for kind in sorted(kinds)
    }


manifests = st.builds(
    Manifest,
    backbone=st.builds(Backbone, texts, st.none() | texts, texts, texts, texts, st.integers(), some, digests, labels),
    graphs=st.lists(texts, min_size=1, max_size=3, unique=True).flatmap(
        lambda engines: st.fixed_dictionaries({engine: graphs(engine) for engine in engines})
    ),
    kinds=kind_shapes(),
    refused_kinds=string_maps,
    preprocessing=st.builds(
        Preprocessing, lengths_of_texts, st.none() | counts, some, some, counts, texts, st.booleans()
    ),
    files=digest_maps,
    parity=st.dictionaries(texts, st.floats(allow_nan=False, allow_infinity=False) | texts, max_size=3),
    versions=string_maps,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(manifest=manifests)
def test_a_written_manifest_is_read_again(tmp_path: Path, manifest: Manifest) -> None:
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest


def edited(folder: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    write_manifest(folder, VALID)
    path = folder / MANIFEST_NAME
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))
    return folder


def test_the_valid_manifest_of_these_tests_is_valid(tmp_path: Path) -> None:
    assert read_manifest(edited(tmp_path, lambda _: None)) == VALID


def test_a_kind_is_written_with_the_word_of_its_free_axis(tmp_path: Path) -> None:
    write_manifest(tmp_path, VALID)
    kinds = json.loads((tmp_path / MANIFEST_NAME).read_text())["kinds"]
    assert kinds == {"soft": ["num_virtual_tokens", 32], "prefix": [2, 2, 4, "num_virtual_tokens", 8]}


@pytest.mark.parametrize(
    "edit",
    [
        lambda value: value["preprocessing"].update(max_tokens=2),
        lambda value: value["preprocessing"].update(vocab_size=0),
        lambda value: value["preprocessing"].update(num_token_types=0),
        lambda value: value["backbone"].update(labels=["a", "a"]),
        lambda value: value["kinds"]["prefix"].__setitem__(1, 3),
        lambda value: value["graphs"][0].update(inputs=["input_ids", "attention_mask"]),
        lambda value: value["graphs"][0].update(inputs=[*INPUTS, "pixel_values"]),
        lambda value: value["graphs"][0].update(inputs=[*INPUTS, "soft_prompt"]),
        lambda value: value["graphs"][0].update(outputs=["logits"]),
    ],
)
def test_what_no_runtime_could_run_is_refused(tmp_path: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(ManifestError):
        read_manifest(edited(tmp_path, edit))


@pytest.mark.parametrize("version", [0, -1, MANIFEST_FORMAT_VERSION + 1, 10**30])
def test_a_manifest_of_another_format_version_is_refused(tmp_path: Path, version: int) -> None:
    with pytest.raises(ManifestError, match=r"format version .*install a newer edge-prompt"):
        read_manifest(edited(tmp_path, lambda value: value.update(format_version=version)))


FIELDS = [
    ("format_version",),
    ("backbone",),
    *(("backbone", name) for name in Backbone.__dataclass_fields__ if name != "revision"),
    ("graphs",),
    *(("graphs", 0, name) for name in Graph.__dataclass_fields__),
    ("kinds",),
    ("refused_kinds",),
    ("preprocessing",),
    *(("preprocessing", name) for name in Preprocessing.__dataclass_fields__ if name != "max_positions"),
    ("files",),
    ("parity",),
    ("versions",),
]


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: ".".join(map(str, field)))
def test_a_missing_field_is_named(tmp_path: Path, field: tuple[Any, ...]) -> None:
    *outer, name = field

    def edit(value: Any) -> None:
        for step in outer:
            value = value[step]
        del value[name]

    with pytest.raises(ManifestError, match=f"no field '{name}'"):
        read_manifest(edited(tmp_path, edit))


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: ".".join(map(str, field)))
@pytest.mark.parametrize("wrong", [None, 1.5])
def test_a_field_of_another_type_is_named(tmp_path: Path, field: tuple[Any, ...], wrong: object) -> None:
    *outer, name = field

    def edit(value: Any) -> None:
        for step in outer:
            value = value[step]
        value[name] = wrong

    with pytest.raises(ManifestError, match=f"'{name}' is {type(wrong).__name__}"):
        read_manifest(edited(tmp_path, edit))


@pytest.mark.parametrize(
    ("edit", "found"),
    [
        (lambda v: v.update(graphs=[]), "0 graphs"),
        (lambda v: v["graphs"].append(v["graphs"][0]), "2 graphs"),
        (lambda v: v.update(graphs=[1]), "'graphs' holds a int"),
        (lambda v: v["graphs"][0].update(file="other.onnx"), "no digest of 'other.onnx'"),
        (lambda v: v["graphs"][0].update(sha256={"model.onnx": "00"}), "graphs: sha256: 'model.onnx' is '00'"),
        (lambda v: v["graphs"][0].update(inputs=[1]), "'inputs' holds more than strings"),
        (lambda v: v["files"].update(x=1), "files: 'x' is int"),
        (lambda v: v["versions"].update(x=1), "versions: 'x' is int"),
        (lambda v: v["backbone"].update(fingerprint="00"), "backbone: 'fingerprint' is '00'"),
        (lambda v: v["preprocessing"].update(normalize=1), "'normalize' is int"),
        (lambda v: v["preprocessing"].update(max_tokens=-1), "'max_tokens' is -1"),
        (lambda v: v["preprocessing"].update(max_positions="64"), "'max_positions' is str"),
        (lambda v: v["kinds"].update(hard=[1]), "'hard' of 1 axes"),
        (lambda v: v["kinds"].update(soft=[32]), "'soft' of 1 axes"),
        (lambda v: v["kinds"].update(soft=32), "'soft' is int"),
        (lambda v: v["kinds"].update(soft=[16, 32]), r"'soft' with lengths \[16, 32\]"),
        (lambda v: v["kinds"].update(soft=["num_virtual_tokens", "hidden_size"]), "'soft' with lengths"),
        (lambda v: v["kinds"].update(soft=["num_virtual_tokens", 0]), "'soft' with lengths"),
        (lambda v: v["kinds"].update(soft=["num_virtual_tokens", True]), "'soft' with lengths"),
        (lambda v: v["kinds"].update(soft=["num_virtual_tokens", 2**31]), "'soft' with lengths"),
        (lambda v: v["kinds"].update(soft=[None, 32]), "'soft' with lengths"),
    ],
)
def test_a_malformed_manifest_is_refused(tmp_path: Path, edit: Callable[[dict[str, Any]], object], found: str) -> None:
    with pytest.raises(ManifestError, match=found):
        read_manifest(edited(tmp_path, edit))


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"edge_prompt\.json: no such file"):
        read_manifest(tmp_path)
