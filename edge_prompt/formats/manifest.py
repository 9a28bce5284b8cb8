"""The manifest of a bundle, `edge_prompt.json`: the backbone, its graphs, and the kinds of prompt it supports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edge_prompt.base.errors import ManifestError
from edge_prompt.formats.kinds import FREE_AXIS, KIND_AXES, KindShape
from edge_prompt.formats.kv_cache_names import TOKEN_INPUTS, past_names, present_names, shared_form, stateful_form
from edge_prompt.formats.preprocessing import (
    ArrayPreprocessing,
    EncoderPreprocessing,
    LanguagePreprocessing,
    Preprocessing,
    preprocessing_as_json,
    read_preprocessing,
)
from edge_prompt.storage.files import read_hashed_json, write_json
from edge_prompt.untrusted.json_fields import Fields

MANIFEST_NAME = "edge_prompt.json"
MANIFEST_FORMAT_VERSION = 1

PROMPT_INPUTS = {"soft": "soft_prompt", "prefix": "prefix", "pixel": "pixel_prompt"}
"""The graph input for a prompt, by kind. A deep prompt is first folded into a prefix."""

FOLD_INPUTS, FOLD_OUTPUTS = ("deep_prompt",), ("prefix",)
"""The inputs and outputs of a fold graph."""


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
    """

    source: str
    revision: str | None
    model_type: str
    architecture: str
    task: str
    num_parameters: int
    feature_size: int
    fingerprint: str
    labels: tuple[str, ...]


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
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    sha256: Mapping[str, str]
    weights_file: str | None = None
    compression: Mapping[str, Any] = field(default_factory=dict)


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
    graphs: Mapping[str, Graph]
    kinds: Mapping[str, KindShape]
    refused_kinds: Mapping[str, str]
    preprocessing: Preprocessing
    files: Mapping[str, str]
    parity: Mapping[str, Any]
    versions: Mapping[str, str]
    fold_graphs: Mapping[str, Graph] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class EncoderManifest(BaseManifest):
    """The manifest of a network that reads a request as a whole: a text, an image, or arrays of its own.

    Attributes:
        preprocessing: How a request becomes inputs.
    """

    preprocessing: EncoderPreprocessing


@dataclass(frozen=True, kw_only=True)
class LanguageManifest(BaseManifest):
    """The manifest of a causal language model, which continues a text token by token.

    Attributes:
        preprocessing: How a text becomes inputs.
        kv_cache: `(num_kv_heads, head_dim)` of the cached keys and values, one pair per layer.
    """

    preprocessing: LanguagePreprocessing
    kv_cache: tuple[tuple[int, int], ...]


Manifest = EncoderManifest | LanguageManifest
"""The contents of a manifest, by what the network is."""


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest into the folder of a bundle, atomically."""
    value = asdict(manifest)
    value["cache"] = value.pop("kv_cache", ())
    value["graphs"] = list(value["graphs"].values())
    value["fold_graphs"] = list(value["fold_graphs"].values())
    value["preprocessing"] = preprocessing_as_json(manifest.preprocessing)
    value["kinds"] = {
        kind: [axis if length is None else length for axis, length in zip(KIND_AXES[kind], shape, strict=True)]
        for kind, shape in manifest.kinds.items()
    }
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
    preprocessing = read_preprocessing(fields.inside("preprocessing"))
    graphs = _graphs(fields, "graphs")
    cache = _cache(fields)
    if bool(cache) is not isinstance(preprocessing, LanguagePreprocessing):
        fields.refuse("only one of a cache and language preprocessing", "both or neither")
    for graph in graphs.values():
        if cache:
            _require_language_model(fields, graph, len(cache))
        else:
            _require_request_inputs(fields, graph, preprocessing)
    fold_graphs = _graphs(fields, "fold_graphs")
    for graph in fold_graphs.values():
        if graph.inputs != FOLD_INPUTS or graph.outputs != FOLD_OUTPUTS:
            fields.refuse(
                f"a fold graph from {list(graph.inputs)[:9]} to {list(graph.outputs)[:9]}",
                "one from deep_prompt to prefix",
            )
    if not graphs:
        fields.refuse("no graphs", "at least one")
    kinds = _kinds(fields.inside("kinds"))
    if cache:
        _require_cached_kinds(fields, kinds, cache)
    else:
        for graph in graphs.values():
            _require_prompt_inputs(fields, graph, kinds)
    if "deep" in kinds and ("prefix" not in kinds or not fold_graphs.keys() >= graphs.keys()):
        fields.refuse("deep prompts that cannot be folded", "one fold graph per engine, and the kind prefix")
    shared: dict[str, Any] = {
        "backbone": _backbone(fields.inside("backbone")),
        "graphs": graphs,
        "kinds": kinds,
        "refused_kinds": fields.string_values("refused_kinds"),
        "files": _digests(fields.inside("files")),
        "parity": fields.take("parity", dict),
        "versions": fields.string_values("versions"),
        "fold_graphs": fold_graphs,
    }
    return manifest_of(preprocessing, cache, **shared), sha256


def manifest_of(preprocessing: Preprocessing, kv_cache: Sequence[tuple[int, int]], **shared: Any) -> Manifest:
    """Return the manifest of a network by how its requests become inputs.

    Args:
        preprocessing: How a request becomes inputs.
        kv_cache: The layers of a causal language model; not used for other networks.
        **shared: The fields of `BaseManifest`.
    """
    if isinstance(preprocessing, LanguagePreprocessing):
        return LanguageManifest(preprocessing=preprocessing, kv_cache=tuple(kv_cache), **shared)
    return EncoderManifest(preprocessing=preprocessing, **shared)


def _backbone(fields: Fields) -> Backbone:
    return Backbone(
        source=fields.take("source", str),
        revision=fields.optional("revision", str),
        model_type=fields.take("model_type", str),
        architecture=fields.take("architecture", str),
        task=fields.take("task", str),
        num_parameters=fields.take("num_parameters", int),
        feature_size=fields.size("feature_size", least=1),
        fingerprint=fields.sha256("fingerprint"),
        labels=fields.distinct("labels"),
    )


def _graphs(fields: Fields, name: str) -> dict[str, Graph]:
    """Read the graphs in the list `name`, one per engine."""
    graphs = [_graph(each) for each in fields.objects(name)]
    if len({graph.engine for graph in graphs}) != len(graphs):
        fields.refuse(f"{len(graphs)} {name}, several of them for the same engine", "one per engine")
    return {graph.engine: graph for graph in graphs}


def _graph(fields: Fields) -> Graph:
    graph = Graph(
        engine=fields.take("engine", str),
        file=fields.take("file", str),
        weights=fields.take("weights", str),
        inputs=fields.distinct("inputs"),
        outputs=fields.distinct("outputs"),
        sha256=_digests(fields.inside("sha256")),
        weights_file=fields.optional("weights_file", str),
        compression=fields.optional("compression", dict) or {},
    )
    for file in (graph.file, graph.weights_file):
        if file is not None and file not in graph.sha256:
            fields.refuse(f"no digest of {file[:80]!r}", "a digest for every file of the graph")
    return graph


def _require_request_inputs(fields: Fields, graph: Graph, preprocessing: Preprocessing) -> None:
    """Check that a request and a prompt provide all inputs of a graph."""
    names, known = set(graph.inputs), {*preprocessing.input_names, *PROMPT_INPUTS.values()}
    if len(known) < len(preprocessing.input_names) + len(PROMPT_INPUTS):
        fields.refuse(
            f"requests with the arrays {list(preprocessing.input_names)[:9]}", "names that are not prompt inputs"
        )
    if not preprocessing.required_inputs <= names <= known:
        needed = ", ".join(sorted(preprocessing.required_inputs))
        fields.refuse(
            f"the inputs {list(graph.inputs)[:9]}", f"{needed}, and otherwise only {', '.join(sorted(known))}"
        )
    if not isinstance(preprocessing, ArrayPreprocessing) and "features" not in graph.outputs:
        fields.refuse(f"the outputs {list(graph.outputs)[:9]}", "outputs that include 'features'")


def _require_prompt_inputs(fields: Fields, graph: Graph, kinds: Mapping[str, KindShape]) -> None:
    """Check that a graph has exactly one prompt input for each kind of the bundle, so that no prompt is ignored."""
    found = set(graph.inputs) & set(PROMPT_INPUTS.values())
    wanted = {PROMPT_INPUTS[kind] for kind in kinds if kind in PROMPT_INPUTS}
    if found != wanted:
        fields.refuse(
            f"the inputs {list(graph.inputs)[:9]} and the kinds {list(kinds)}", "an input for each kind, and no others"
        )


def _require_language_model(fields: Fields, graph: Graph, num_layers: int) -> None:
    """Check that a graph is a causal language model with `num_layers` layers, with shared buffers or stateful."""
    inputs = (*TOKEN_INPUTS, *past_names(num_layers))
    outputs = ("logits", *present_names(num_layers))
    forms = (shared_form(inputs, outputs), stateful_form(inputs, outputs))
    if not any(set(graph.inputs) == set(ins) and set(graph.outputs) == set(outs) for ins, outs in forms):
        fields.refuse(
            f"a graph from {list(graph.inputs)[:9]} to {list(graph.outputs)[:3]}",
            f"one of a language model with {num_layers} layers",
        )


def _require_cached_kinds(fields: Fields, kinds: Mapping[str, KindShape], cache: tuple[tuple[int, int], ...]) -> None:
    """Check that all kinds enter through the embeddings or the cache of the graph."""
    heads, head_dim = cache[0]
    wanted = {"soft": kinds.get("soft"), "prefix": (len(cache), 2, heads, None, head_dim)}
    uniform = len(set(cache)) == 1
    if (
        "soft" not in kinds
        or any(shape != wanted.get(kind) for kind, shape in kinds.items())
        or ("prefix" in kinds and not uniform)
    ):
        fields.refuse(
            f"the kinds {dict(kinds)} of a language model", "soft, and optionally a prefix that matches the cache"
        )


def _cache(fields: Fields) -> tuple[tuple[int, int], ...]:
    layers = fields.optional("cache", list) or []
    for layer in layers:
        sizes = layer if isinstance(layer, list) else []
        if len(sizes) != 2 or not all(type(size) is int and 0 < size < 2**31 for size in sizes):
            fields.refuse(f"a cache of {str(layer)[:40]} in a layer", "the number of heads and their size")
    return tuple((heads, head_dim) for heads, head_dim in layers)


def _kinds(fields: Fields) -> dict[str, KindShape]:
    kinds: dict[str, KindShape] = {}
    for kind in fields.value:
        axes = KIND_AXES.get(kind, ())
        lengths = fields.take(kind, list)
        if not axes or len(lengths) != len(axes):
            fields.refuse(
                f"{kind[:40]!r} with {len(lengths)} axes", f"one of the kinds {', '.join(KIND_AXES)}, with its axes"
            )
        free = [axis == FREE_AXIS for axis in axes]
        if not all(
            length == FREE_AXIS if is_free else type(length) is int and 0 < length < 2**31
            for is_free, length in zip(free, lengths, strict=True)
        ):
            fields.refuse(
                f"{kind!r} with lengths {str(lengths)[:80]}", f"one length per axis, and {FREE_AXIS!r} for its own axis"
            )
        if kind == "prefix" and lengths[1] != 2:
            fields.refuse(f"a prefix with {lengths[1]} parts per layer", "2, keys and values")
        kinds[kind] = tuple(None if is_free else length for is_free, length in zip(free, lengths, strict=True))
    return kinds


def _digests(fields: Fields) -> dict[str, str]:
    return {name: fields.sha256(name) for name in fields.value}
