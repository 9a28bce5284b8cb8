from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_prompt.base.errors import ManifestError, MissingFileError
from edge_prompt.formats.kinds import FOLD_INPUTS, FOLD_OUTPUTS, KIND_AXES, PROMPT_INPUTS
from edge_prompt.formats.manifest import (
    MANIFEST_FORMAT_VERSION,
    MANIFEST_NAME,
    Backbone,
    EncoderManifest,
    Graph,
    Manifest,
    read_manifest,
    write_manifest,
)
from edge_prompt.formats.preprocessing import (
    ArrayInput,
    ArrayPreprocessing,
    EncoderPreprocessing,
    ImagePreprocessing,
    TextPreprocessing,
)

DIGEST = "0123456789abcdef" * 4
INPUTS = ("input_ids", "attention_mask", "soft_prompt", "prefix")
GRAPH = Graph("onnxruntime", "model.onnx", "fp32", INPUTS, ("features",), {"model.onnx": DIGEST})
VALID = EncoderManifest(
    backbone=Backbone("tiny", None, "bert", "BertModel", "feature-extraction", 1000, 32, DIGEST, ("a", "b")),
    graphs={"onnxruntime": GRAPH},
    kinds={"soft": (None, 32), "prefix": (2, 2, 4, None, 8)},
    refused_kinds={},
    preprocessing=TextPreprocessing(48, 64, 200, 2, 0, "mean", normalize=True),
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


text_preprocessings = st.builds(
    TextPreprocessing, lengths_of_texts, st.none() | counts, some, some, counts, texts, st.booleans()
)
image_preprocessings = st.builds(
    ImagePreprocessing, some, st.just(32), st.just(48), st.none(), texts, st.booleans()
) | st.builds(ImagePreprocessing, some, st.none(), st.none(), st.none(), texts, st.booleans())
arrays = st.builds(ArrayInput, st.sampled_from(["float32", "int64", "bool"]), st.just((None, 3)))
array_names = texts.filter(lambda name: name not in PROMPT_INPUTS.values())
array_preprocessings = st.builds(ArrayPreprocessing, st.dictionaries(array_names, arrays, min_size=1, max_size=3))


@st.composite
def graphs(draw: st.DrawFn, engine: str, inputs: tuple[str, ...], outputs: tuple[str, ...] = ()) -> Graph:
    file, weights_file = draw(texts), draw(st.none() | texts)
    sha256 = {**draw(digest_maps), file: draw(digests)}
    if weights_file is not None:
        sha256[weights_file] = draw(digests)
    outputs = outputs or tuple(sorted(draw(st.sets(texts)) | {"features"}))
    return Graph(engine, file, draw(texts), inputs, outputs, sha256, weights_file)


def graphs_of(engines: list[str], *io: tuple[str, ...]) -> st.SearchStrategy[dict[str, Graph]]:
    return st.fixed_dictionaries({engine: graphs(engine, *io) for engine in engines})


@st.composite
def kind_shapes(draw: st.DrawFn) -> dict[str, tuple[int | None, ...]]:
    kinds = draw(st.sets(st.sampled_from(sorted(KIND_AXES))))
    if "deep" in kinds:
        kinds.add("prefix")
    fixed = {"num_virtual_tokens": None, "key_value": 2}
    return {
        kind: tuple(fixed[axis] if axis in fixed else draw(some) for axis in KIND_AXES[kind]) for kind in sorted(kinds)
    }


@st.composite
def manifests(draw: st.DrawFn) -> EncoderManifest:
    preprocessing: EncoderPreprocessing = draw(text_preprocessings | image_preprocessings | array_preprocessings)
    kinds = draw(kind_shapes())
    further = draw(st.sets(st.sampled_from(sorted(preprocessing.input_names))))
    prompts = [name for kind, name in PROMPT_INPUTS.items() if kind in kinds]
    inputs = (*sorted(preprocessing.required_inputs | further), *prompts)
    engines = draw(st.lists(texts, min_size=1, max_size=3, unique=True))
    folds = "deep" in kinds or draw(st.booleans())
    return EncoderManifest(
        backbone=draw(
            st.builds(Backbone, texts, st.none() | texts, texts, texts, texts, st.integers(), some, digests, labels)
        ),
        graphs=draw(graphs_of(engines, inputs)),
        kinds=kinds,
        refused_kinds=draw(string_maps),
        preprocessing=preprocessing,
        files=draw(digest_maps),
        parity=draw(st.dictionaries(texts, st.floats(allow_nan=False, allow_infinity=False) | texts, max_size=3)),
        versions=draw(string_maps),
        fold_graphs=draw(graphs_of(engines if folds else [], FOLD_INPUTS, FOLD_OUTPUTS)),
    )


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(manifest=manifests())
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
        lambda value: value["graphs"][0].update(inputs=[*INPUTS[1:]]),
        lambda value: value["graphs"][0].update(inputs=["input_ids", "soft_prompt", "prefix"]),
        lambda value: value["graphs"][0].update(inputs=[*INPUTS, "pixel_values"]),
        lambda value: value["graphs"][0].update(inputs=[*INPUTS, "soft_prompt"]),
        lambda value: value["graphs"][0].update(outputs=["logits"]),
        lambda value: value["graphs"][0].update(outputs=["features", "features"]),
        lambda value: value["graphs"][0].update(weights_file="model.data"),
        lambda value: value["graphs"][0].update(weights_file=3),
        lambda value: value["graphs"][0].update(compression="int8"),
    ],
)
def test_a_manifest_that_no_runtime_could_run_is_refused(
    tmp_path: Path, edit: Callable[[dict[str, Any]], object]
) -> None:
    with pytest.raises(ManifestError):
        read_manifest(edited(tmp_path, edit))


@pytest.mark.parametrize("version", [0, -1, MANIFEST_FORMAT_VERSION + 1, 10**30])
def test_a_manifest_of_another_format_version_is_refused(tmp_path: Path, version: int) -> None:
    with pytest.raises(ManifestError, match=r"format version .*Install a newer edge-prompt"):
        read_manifest(edited(tmp_path, lambda value: value.update(format_version=version)))


FIELDS = [
    ("format_version",),
    ("backbone",),
    *(("backbone", name) for name in Backbone.__dataclass_fields__ if name not in {"revision", "problem_type"}),
    ("graphs",),
    *(("graphs", 0, name) for name in Graph.__dataclass_fields__ if name not in {"weights_file", "compression"}),
    ("fold_graphs",),
    ("kinds",),
    ("refused_kinds",),
    ("preprocessing",),
    ("preprocessing", "modality"),
    *(("preprocessing", name) for name in TextPreprocessing.__dataclass_fields__ if name != "max_positions"),
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
        (lambda v: v.update(graphs=[]), "no graph"),
        (lambda v: v["graphs"].append(v["graphs"][0]), "2 graphs, several of them for the same engine"),
        (lambda v: v.update(fold_graphs=[1]), r"'fold_graphs\[0\]' is int"),
        (lambda v: v.update(graphs=[1]), r"'graphs\[0\]' is int"),
        (lambda v: v["graphs"][0].update(file="other.onnx"), "no digest of 'other.onnx'"),
        (lambda v: v["graphs"][0].update(sha256={"model.onnx": "00"}), r"graphs\[0\]: sha256: 'model.onnx' is '00'"),
        (lambda v: v["graphs"][0].update(inputs=[1]), r"graphs\[0\]: 'inputs\[0\]' is int"),
        (lambda v: v["files"].update(x=1), "files: 'x' is int"),
        (lambda v: v["versions"].update(x=1), "versions: 'x' is int"),
        (lambda v: v["backbone"].update(fingerprint="00"), "backbone: 'fingerprint' is '00'"),
        (lambda v: v["preprocessing"].update(normalize=1), "'normalize' is int"),
        (lambda v: v["preprocessing"].update(max_tokens=-1), "'max_tokens' is -1"),
        (lambda v: v["preprocessing"].update(max_positions="64"), "'max_positions' is str"),
        (lambda v: v["kinds"].update(hard=[1]), "'hard' with 1 axes"),
        (lambda v: v["kinds"].update(soft=[32]), "'soft' with 1 axes"),
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


FOLD_GRAPH = Graph("onnxruntime", "fold.onnx", "fp32", FOLD_INPUTS, FOLD_OUTPUTS, {"fold.onnx": DIGEST})
FOLDING = replace(VALID, kinds={**VALID.kinds, "deep": (2, None, 32)}, fold_graphs={"onnxruntime": FOLD_GRAPH})


@pytest.mark.parametrize(
    "manifest",
    [
        FOLDING,
        replace(FOLDING, kinds=VALID.kinds),
        replace(FOLDING, fold_graphs={"onnxruntime": replace(FOLD_GRAPH, weights_file="fold.onnx")}),
        replace(FOLDING, fold_graphs={**FOLDING.fold_graphs, "openvino": replace(FOLD_GRAPH, engine="openvino")}),
    ],
)
def test_fold_graphs_are_read(tmp_path: Path, manifest: Manifest) -> None:
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest


@pytest.mark.parametrize(
    ("manifest", "found"),
    [
        (replace(FOLDING, fold_graphs={}), "deep prompts that cannot be folded"),
        (
            replace(FOLDING, graphs={**FOLDING.graphs, "openvino": replace(GRAPH, engine="openvino")}),
            "deep prompts that cannot be folded",
        ),
        (
            replace(
                FOLDING,
                kinds={kind: shape for kind, shape in FOLDING.kinds.items() if kind != "prefix"},
                graphs={"onnxruntime": replace(GRAPH, inputs=INPUTS[:3])},
            ),
            "deep prompts that cannot be folded",
        ),
        (
            replace(FOLDING, fold_graphs={"onnxruntime": replace(FOLD_GRAPH, inputs=("soft_prompt",))}),
            r"a fold graph from \['soft_prompt'\] to \['prefix'\]; expected one from deep_prompt to prefix",
        ),
        (
            replace(FOLDING, fold_graphs={"onnxruntime": replace(FOLD_GRAPH, outputs=("prefix", "features"))}),
            r"a fold graph from \['deep_prompt'\] to \['prefix', 'features'\]",
        ),
        (
            replace(FOLDING, fold_graphs={"a": FOLD_GRAPH, "b": FOLD_GRAPH}),
            "2 fold_graphs, several of them for the same engine",
        ),
        (
            replace(FOLDING, fold_graphs={"onnxruntime": replace(FOLD_GRAPH, weights_file="model.bin")}),
            r"fold_graphs\[0\]: no digest of 'model.bin'",
        ),
    ],
)
def test_deep_prompts_that_could_not_be_folded_are_refused(tmp_path: Path, manifest: Manifest, found: str) -> None:
    write_manifest(tmp_path, manifest)
    with pytest.raises(ManifestError, match=found):
        read_manifest(tmp_path)


def test_a_kind_for_which_a_graph_has_no_input_is_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path, replace(VALID, kinds={**VALID.kinds, "pixel": (3, 8, 8)}))
    with pytest.raises(ManifestError, match="expected an input for each kind, and no others"):
        read_manifest(tmp_path)


def test_an_input_for_a_kind_that_the_bundle_does_not_take_is_refused(tmp_path: Path) -> None:
    write_manifest(tmp_path, replace(VALID, kinds={"prefix": VALID.kinds["prefix"]}))
    with pytest.raises(ManifestError, match="expected an input for each kind, and no others"):
        read_manifest(tmp_path)


IMAGES = replace(
    VALID,
    graphs={"onnxruntime": replace(GRAPH, inputs=("pixel_values", "soft_prompt", "prefix"))},
    preprocessing=ImagePreprocessing(3, 8, 8, None, "cls", normalize=False),
)
ARRAYS = replace(
    VALID,
    graphs={"onnxruntime": replace(GRAPH, inputs=("a", "b", "soft_prompt", "prefix"), outputs=("y",))},
    preprocessing=ArrayPreprocessing({"a": ArrayInput("float32", (None, 3)), "b": ArrayInput("bool", (None,))}),
)


@pytest.mark.parametrize("manifest", [IMAGES, ARRAYS])
def test_a_bundle_of_another_modality_is_read(tmp_path: Path, manifest: Manifest) -> None:
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest


def test_a_request_without_prompts_is_enough(tmp_path: Path) -> None:
    graph = replace(GRAPH, inputs=("input_ids", "attention_mask"))
    manifest = replace(VALID, graphs={"onnxruntime": graph}, kinds={})
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest


@pytest.mark.parametrize(
    ("manifest", "graph"),
    [
        (IMAGES, {"inputs": ("soft_prompt", "prefix")}),
        (IMAGES, {"inputs": ("pixel_values", "input_ids", "soft_prompt", "prefix")}),
        (IMAGES, {"outputs": ("logits",)}),
        (ARRAYS, {"inputs": ("a", "soft_prompt", "prefix")}),
        (ARRAYS, {"inputs": ("a", "b", "c", "soft_prompt", "prefix")}),
    ],
)
def test_a_graph_that_no_request_of_its_modality_could_feed_is_refused(
    tmp_path: Path, manifest: Manifest, graph: dict[str, Any]
) -> None:
    altered = replace(manifest.graphs["onnxruntime"], **graph)
    write_manifest(tmp_path, replace(manifest, graphs={"onnxruntime": altered}))
    with pytest.raises(ManifestError, match=r"the (in|out)puts \["):
        read_manifest(tmp_path)


def test_an_array_with_the_name_of_a_prompt_is_refused(tmp_path: Path) -> None:
    preprocessing = ArrayPreprocessing({"prefix": ArrayInput("float32", (None, 3))})
    graph = replace(GRAPH, inputs=("prefix", "soft_prompt"))
    write_manifest(tmp_path, replace(VALID, graphs={"onnxruntime": graph}, preprocessing=preprocessing))
    with pytest.raises(ManifestError, match="expected names that are not prompt inputs"):
        read_manifest(tmp_path)


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"edge_prompt\.json: no such file"):
        read_manifest(tmp_path)
