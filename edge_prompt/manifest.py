"""The manifest of a bundle, `edge_prompt.json`: what was exported, from what, for which engines and kinds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge_prompt.errors import ManifestError
from edge_prompt.fields import Fields
from edge_prompt.files import read_json, write_json
from edge_prompt.kinds import FREE_AXIS, KIND_AXES, KindShape

MANIFEST_NAME = "edge_prompt.json"
MANIFEST_FORMAT_VERSION = 1

LEAST_TOKENS = 3
"""Two special tokens, and one of a text: a backbone or a prompt that leaves less room is of no use."""

TOKEN_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""The inputs of a graph that a request's tokens fill; `token_type_ids` only where the network has types."""

PROMPT_INPUTS = {"soft": "soft_prompt", "prefix": "prefix"}
"""The input of a graph that a prompt fills, by kind."""

_NEEDED_INPUTS = {"input_ids", "attention_mask", "soft_prompt"}
_KNOWN_INPUTS = {*TOKEN_INPUTS, *PROMPT_INPUTS.values()}


@dataclass(frozen=True)
class Backbone:
    """The network that was exported.

    Attributes:
        source: The folder name or hub name it was loaded from.
        revision: The hub revision asked for, or None.
        model_type: transformers' name of the architecture, e.g. `bert`.
        architecture: The class that was loaded, e.g. `BertModel`.
        task: What the network does, in transformers' terms, e.g. `feature-extraction`.
        num_parameters: How many numbers the graph reaches.
        feature_size: Width of the feature that heads read.
        fingerprint: See `edge_prompt.fingerprint`.
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
        inputs: Input names, in order.
        outputs: Output names, in order.
        sha256: SHA-256 by file name, of `file` and of every file it needs.
    """

    engine: str
    file: str
    weights: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    sha256: Mapping[str, str]


@dataclass(frozen=True)
class Preprocessing:
    """How a text becomes the backbone's inputs, and a feature an embedding.

    Attributes:
        max_tokens: Tokens of a text that the backbone takes, special tokens included; the rest is cut off.
        max_positions: Positions it has for prefix, virtual tokens and tokens together; None if it counts no positions.
        vocab_size: How many tokens there are; an id is below.
        num_token_types: How many token types there are; at least 1.
        pad_token_id: The token that fills a row up.
        pooling: How token vectors become the feature: `mean` or `cls`.
        normalize: Whether an embedding is scaled to length 1, as the backbone's authors have it.
    """

    max_tokens: int
    max_positions: int | None
    vocab_size: int
    num_token_types: int
    pad_token_id: int
    pooling: str
    normalize: bool


@dataclass(frozen=True)
class Manifest:
    """What a manifest says. Formats: `docs/formats.md`.

    Attributes:
        backbone: The network.
        graphs: Its graphs, by engine.
        kinds: The kinds of prompt it takes, and their shapes.
        refused_kinds: Why it does not take a kind that its family could, by kind.
        preprocessing: From text to inputs.
        files: SHA-256 by name of the other files of the bundle (tokenizer, configuration, reference).
        parity: What was measured when it was exported; free-form, for people.
        versions: The version of each package that wrote it.
    """

    backbone: Backbone
    graphs: Mapping[str, Graph]
    kinds: Mapping[str, KindShape]
    refused_kinds: Mapping[str, str]
    preprocessing: Preprocessing
    files: Mapping[str, str]
    parity: Mapping[str, Any]
    versions: Mapping[str, str]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest into a bundle's folder, atomically."""
    value = asdict(manifest)
    value["graphs"] = list(value["graphs"].values())
    value["kinds"] = {
        kind: [axis if length is None else length for axis, length in zip(KIND_AXES[kind], shape, strict=True)]
        for kind, shape in manifest.kinds.items()
    }
    write_json(folder / MANIFEST_NAME, {"format_version": MANIFEST_FORMAT_VERSION, **value})


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of the bundle in `folder`; the files it names are not looked at.

    Raises:
        MissingFileError: There is no manifest.
        ManifestError: It is malformed or from a newer format.
    """
    path = folder / MANIFEST_NAME
    fields = Fields(read_json(path, ManifestError), str(path), ManifestError)
    fields.require_version(MANIFEST_FORMAT_VERSION)
    graphs = [
        _graph(Fields(_object(fields, "graphs", g), f"{path}: graphs", ManifestError))
        for g in fields.take("graphs", list)
    ]
    if not graphs or len({graph.engine for graph in graphs}) != len(graphs):
        fields.refuse(f"{len(graphs)} graphs", "at least one graph, and one an engine")
    return Manifest(
        backbone=_backbone(fields.inside("backbone")),
        graphs={graph.engine: graph for graph in graphs},
        kinds=_kinds(fields.inside("kinds")),
        refused_kinds=_string_values(fields.inside("refused_kinds")),
        preprocessing=_preprocessing(fields.inside("preprocessing")),
        files=_digests(fields.inside("files")),
        parity=fields.take("parity", dict),
        versions=_string_values(fields.inside("versions")),
    )


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


def _graph(fields: Fields) -> Graph:
    graph = Graph(
        engine=fields.take("engine", str),
        file=fields.take("file", str),
        weights=fields.take("weights", str),
        inputs=fields.strings("inputs"),
        outputs=fields.strings("outputs"),
        sha256=_digests(fields.inside("sha256")),
    )
    names = set(graph.inputs)
    if not names >= _NEEDED_INPUTS or not names <= _KNOWN_INPUTS or len(names) != len(graph.inputs):
        needed, known = ", ".join(sorted(_NEEDED_INPUTS)), ", ".join(sorted(_KNOWN_INPUTS))
        fields.refuse(f"the inputs {list(graph.inputs)[:9]}", f"{needed}, and no others than {known}")
    if "features" not in graph.outputs:
        fields.refuse(f"the outputs {list(graph.outputs)[:9]}", "'features' among them")
    if graph.file not in graph.sha256:
        fields.refuse(f"no digest of {graph.file[:80]!r}", "a digest of every file of the graph")
    return graph


def _kinds(fields: Fields) -> dict[str, KindShape]:
    kinds: dict[str, KindShape] = {}
    for kind in fields.value:
        axes = KIND_AXES.get(kind, ())
        lengths = fields.take(kind, list)
        if not axes or len(lengths) != len(axes):
            fields.refuse(f"{kind[:40]!r} of {len(lengths)} axes", f"a kind of {', '.join(KIND_AXES)}, with its axes")
        free = [axis == FREE_AXIS for axis in axes]
        if not all(
            length == FREE_AXIS if is_free else type(length) is int and 0 < length < 2**31
            for is_free, length in zip(free, lengths, strict=True)
        ):
            fields.refuse(
                f"{kind!r} with lengths {str(lengths)[:80]}", f"a length an axis, or {FREE_AXIS!r} on its own axis"
            )
        if kind == "prefix" and lengths[1] != 2:
            fields.refuse(f"a prefix of {lengths[1]} parts a layer", "2, keys and values")
        kinds[kind] = tuple(None if is_free else length for is_free, length in zip(free, lengths, strict=True))
    return kinds


def _preprocessing(fields: Fields) -> Preprocessing:
    return Preprocessing(
        max_tokens=fields.size("max_tokens", least=LEAST_TOKENS),
        max_positions=None if fields.value.get("max_positions") is None else fields.size("max_positions"),
        vocab_size=fields.size("vocab_size", least=1),
        num_token_types=fields.size("num_token_types", least=1),
        pad_token_id=fields.size("pad_token_id"),
        pooling=fields.take("pooling", str),
        normalize=fields.take("normalize", bool),
    )


def _object(fields: Fields, name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        fields.refuse(f"{name!r} holds a {type(value).__name__}", "objects")
    return value


def _digests(fields: Fields) -> dict[str, str]:
    return {name: fields.sha256(name) for name in fields.value}


def _string_values(fields: Fields) -> dict[str, str]:
    return {name: fields.take(name, str) for name in fields.value}
