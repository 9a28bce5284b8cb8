"""The manifest of a bundle, `edge_prompt.json`: the backbone, its graphs, and the kinds of prompt it supports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, NoReturn

from edge_prompt.base.errors import ManifestError
from edge_prompt.formats.kinds import KindShape, kinds_as_json, read_kinds
from edge_prompt.formats.manifest_checks import (
    require_fold_graph,
    require_language_graph,
    require_language_kinds,
    require_prompt_inputs,
    require_request_inputs,
)
from edge_prompt.formats.preprocessing import (
    MODALITIES,
    EncoderPreprocessing,
    LanguagePreprocessing,
    Preprocessing,
    preprocessing_as_json,
    read_preprocessing,
)
from edge_prompt.formats.problem_type import ProblemType
from edge_prompt.storage.files import read_hashed_json, write_json
from edge_prompt.untrusted.json_fields import Fields
from edge_prompt.untrusted.records import (
    OMITTABLE,
    DistinctStrings,
    Named,
    Positive,
    ReadBy,
    Sha256,
    read_record,
    require_consistent,
)

MANIFEST_NAME = "edge_prompt.json"
MANIFEST_FORMAT_VERSION = 1


@dataclass(frozen=True)
class Backbone:
    """The network that was exported.

    Attributes:
        source: The folder name or Hub name from which it was loaded.
        revision: The requested Hub revision, or None.
        model_type: The architecture as named by transformers, e.g. `bert`.
        architecture: The class that was loaded, e.g. `BertModel`.
        task: The task of the network as named by transformers, e.g. `feature-extraction`.
        num_parameters: The number of parameters that the graph uses.
        feature_size: The size of the features that heads read.
        fingerprint: See `edge_prompt.formats.fingerprint`.
        labels: The class names of the network's own head; empty if it has none.
        problem_type: What the logits of that head mean, one of `edge_prompt.formats.problem_type.PROBLEM_TYPES`; None
            leaves it to their number.
    """

    source: str
    revision: str | None
    model_type: str
    architecture: str
    task: str
    num_parameters: int
    feature_size: Positive
    fingerprint: Sha256
    labels: DistinctStrings
    problem_type: ProblemType | None = None


@dataclass(frozen=True)
class Graph:
    """One exported graph.

    Attributes:
        engine: The engine that runs it: `onnxruntime` or `openvino`.
        file: The file that the engine opens.
        weights: The precision of the weights, e.g. `fp32`.
        inputs: The input names, in order.
        outputs: The output names, in order.
        sha256: The SHA-256 of `file` and of every file it needs, by file name.
        weights_file: The file with its weights, if it must be passed to the engine.
        compression: How its weights were compressed, for people; empty in fp32.
    """

    engine: str
    file: str
    weights: str
    inputs: DistinctStrings
    outputs: DistinctStrings
    sha256: Mapping[str, Sha256]
    weights_file: str | None = None
    compression: Annotated[Mapping[str, Any], OMITTABLE] = field(default_factory=dict)


def _graphs_by_engine(fields: Fields, name: str) -> dict[str, Graph]:
    """Read a list of graphs, one per engine."""
    items = fields.items(name)
    graphs = [read_record(Graph, items.inside(key)) for key in items.value]
    if len({graph.engine for graph in graphs}) != len(graphs):
        fields.refuse(f"{len(graphs)} {name}, several of them for the same engine", "one per engine")
    return {graph.engine: graph for graph in graphs}


GraphsByEngine = Annotated[Mapping[str, Graph], ReadBy(_graphs_by_engine)]


@dataclass(frozen=True, kw_only=True)
class BaseManifest:
    """What every manifest contains. `docs/reference/formats.md` describes the format.

    Attributes:
        backbone: The network.
        graphs: Its graphs, by engine.
        fold_graphs: The graphs that fold a deep prompt into a prefix, by engine; empty if deep prompts are unsupported.
        kinds: The kinds of prompt that it supports, and their shapes.
        refused_kinds: The reason why a kind that its family could support is not supported, by kind.
        preprocessing: How a request becomes inputs.
        files: The SHA-256 of the other files of the bundle (tokenizer, configuration, reference), by name.
        parity: The differences measured at export; free-form, for people.
        versions: The versions of the packages that wrote it.
    """

    backbone: Backbone
    graphs: GraphsByEngine
    kinds: Annotated[Mapping[str, KindShape], ReadBy(read_kinds)]
    refused_kinds: Mapping[str, str]
    preprocessing: Preprocessing
    files: Mapping[str, Sha256]
    parity: Mapping[str, Any]
    versions: Mapping[str, str]
    fold_graphs: GraphsByEngine = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class EncoderManifest(BaseManifest):
    """The manifest of a network that reads a request as a whole: a text, an image, or arrays of its own.

    Attributes:
        preprocessing: How a request becomes inputs.
    """

    preprocessing: Annotated[EncoderPreprocessing, ReadBy(read_preprocessing)]


@dataclass(frozen=True, kw_only=True)
class LanguageManifest(BaseManifest):
    """The manifest of a causal language model, which continues a text token by token.

    Attributes:
        preprocessing: How a text becomes inputs.
        kv_cache: `(num_kv_heads, head_dim)` of the cached keys and values, one pair per layer.
    """

    preprocessing: LanguagePreprocessing
    kv_cache: Annotated[tuple[tuple[Positive, Positive], ...], Named("cache")]


Manifest = EncoderManifest | LanguageManifest
"""The contents of a manifest, by what the network is."""


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest into the folder of a bundle, atomically."""
    value = asdict(manifest)
    value["cache"] = value.pop("kv_cache", ())
    if manifest.backbone.problem_type is None:
        del value["backbone"]["problem_type"]
    value["graphs"] = list(value["graphs"].values())
    value["fold_graphs"] = list(value["fold_graphs"].values())
    value["preprocessing"] = preprocessing_as_json(manifest.preprocessing)
    value["kinds"] = kinds_as_json(manifest.kinds)
    write_json(folder / MANIFEST_NAME, {"format_version": MANIFEST_FORMAT_VERSION, **value})


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of the bundle in `folder`, without checking the files that it lists.

    Raises:
        MissingFileError: There is no manifest.
        ManifestError: It is malformed or has a newer format version.
    """
    return read_hashed_manifest(folder)[0]


def read_hashed_manifest(folder: Path) -> tuple[Manifest, str]:
    """Like `read_manifest`, but also return the SHA-256 of the bytes that were read."""
    path = folder / MANIFEST_NAME
    value, sha256 = read_hashed_json(path, ManifestError)
    fields = Fields(value, str(path), ManifestError)
    fields.require_version(MANIFEST_FORMAT_VERSION)
    modality = fields.inside("preprocessing").take("modality", str)
    if MODALITIES.get(modality) is LanguagePreprocessing:
        return read_record(LanguageManifest, fields), sha256
    return read_record(EncoderManifest, fields), sha256


def manifest_of(preprocessing: Preprocessing, kv_cache: Sequence[tuple[int, int]], **shared: Any) -> Manifest:
    """Return the manifest of a network by how its requests become inputs.

    Args:
        preprocessing: How a request becomes inputs.
        kv_cache: The layers of a causal language model; not used for other networks.
        **shared: The other fields of `BaseManifest`.
    """
    if isinstance(preprocessing, LanguagePreprocessing):
        return LanguageManifest(preprocessing=preprocessing, kv_cache=tuple(kv_cache), **shared)
    return EncoderManifest(preprocessing=preprocessing, **shared)


@require_consistent.register
def _require_digests(graph: Graph, fields: Fields) -> None:
    for file in (graph.file, graph.weights_file):
        if file is not None and file not in graph.sha256:
            fields.refuse(f"no digest of {file[:80]!r}", "a digest for every file of the graph")


@require_consistent.register
def _require_encoder(manifest: EncoderManifest, fields: Fields) -> None:
    if fields.optional("cache", list):
        _refuse_cache(fields)
    for graph in manifest.graphs.values():
        require_request_inputs(fields, graph.inputs, graph.outputs, manifest.preprocessing)
        require_prompt_inputs(fields, graph.inputs, manifest.kinds)
    _require_graphs(manifest, fields)


@require_consistent.register
def _require_language(manifest: LanguageManifest, fields: Fields) -> None:
    if not manifest.kv_cache:
        _refuse_cache(fields)
    for graph in manifest.graphs.values():
        require_language_graph(fields, graph.inputs, graph.outputs, len(manifest.kv_cache))
    require_language_kinds(fields, manifest.kinds, manifest.kv_cache)
    _require_graphs(manifest, fields)


def _refuse_cache(fields: Fields) -> NoReturn:
    fields.refuse("only one of a cache and language preprocessing", "both or neither")


def _require_graphs(manifest: Manifest, fields: Fields) -> None:
    """Check that there is a graph, and that deep prompts can be folded for every graph."""
    if not manifest.graphs:
        fields.refuse("no graphs", "at least one")
    for graph in manifest.fold_graphs.values():
        require_fold_graph(fields, graph.inputs, graph.outputs)
    can_fold = "prefix" in manifest.kinds and manifest.fold_graphs.keys() >= manifest.graphs.keys()
    if "deep" in manifest.kinds and not can_fold:
        fields.refuse("deep prompts that cannot be folded", "one fold graph per engine, and the kind prefix")
