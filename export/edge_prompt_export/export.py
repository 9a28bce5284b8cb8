"""Exporting: a frozen backbone becomes a bundle, once, for every engine asked for and every task to come."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from transformers.utils import cached_file

from edge_prompt.bundle import REFERENCE_NAME, TOKENIZER_NAME, Bundle, read_bundle
from edge_prompt.errors import InputError
from edge_prompt.files import folder_written_atomically, sha256_of
from edge_prompt.kinds import KindShape
from edge_prompt.manifest import Backbone, Graph, Manifest, Preprocessing, write_manifest
from edge_prompt.version import __version__
from edge_prompt_export.families.text_encoder import ConditionedTextEncoder
from edge_prompt_export.loading import LoadedBackbone, LoadOptions, load_backbone
from edge_prompt_export.onnx_graph import write_onnx
from edge_prompt_export.openvino_graph import write_openvino
from edge_prompt_export.parity import measure_parity, write_reference
from edge_prompt_runtime.reference import TOLERANCE

logger = logging.getLogger(__name__)


class Format(NamedTuple):
    """A format a graph is written in: the engine that runs it, and what writes it."""

    engine: str
    write: Callable[[ConditionedTextEncoder, Path, Mapping[str, str]], tuple[str, ...]]


FORMATS = {"onnx": Format("onnxruntime", write_onnx), "openvino": Format("openvino", write_openvino)}

COPIED_FILES = ("config.json", TOKENIZER_NAME, "tokenizer_config.json", "special_tokens_map.json")
"""What goes into a bundle as it came."""

_VERSIONS_OF = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime", "openvino")


def export_backbone(
    source: str | Path,
    bundle: str | Path,
    *,
    formats: Sequence[str] = ("onnx", "openvino"),
    task: str | None = None,
    pooling: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    cache_dir: str | None = None,
) -> Bundle:
    """Export a frozen text encoder with its prompts as inputs, and check it on the engines.

    Args:
        source: A local folder, or a name on the hub.
        bundle: The folder to write; it must not exist.
        formats: `onnx`, `openvino`, or both.
        task: `feature-extraction`, `text-classification`, `token-classification` or `fill-mask`; None takes the head
            that the checkpoint brings, or its features.
        pooling: How token vectors become the feature, `mean` or `cls`; None takes what the checkpoint says.
        revision: Branch, tag or commit on the hub.
        trust_remote_code: Whether code that comes with the checkpoint may run.
        cache_dir: Where downloads are kept.

    Returns:
        The bundle.

    Raises:
        BackboneError: The backbone cannot be loaded or lacks weights.
        UnsupportedArchitectureError: It takes no soft prompt, or a converter cannot follow it.
        ParityError: What was exported gives other numbers than torch. Nothing is left behind.
        WriteError: The bundle exists already, or cannot be written.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise InputError(
            found=f"the formats {list(formats)}",
            wanted=f"one or more of {', '.join(FORMATS)}",
            remedy="pass one of them",
        )
    with folder_written_atomically(Path(bundle)) as folder:
        logger.info("loading %s", source)
        backbone = load_backbone(str(source), task, pooling, LoadOptions(revision, trust_remote_code, cache_dir))
        for kind, reason in refused_kinds(backbone.module).items():
            logger.info("no %s prompts: %s", kind, reason)
        graphs = {}
        for name in dict.fromkeys(formats):
            logger.info("writing %s", name)
            graphs[FORMATS[name].engine] = _write_graph(FORMATS[name], backbone, folder)
        _copy_files(backbone, folder)
        write_reference(folder, backbone.module)
        manifest = _manifest(backbone, graphs, folder)
        write_manifest(folder, manifest)
        parity = {}
        for engine in graphs:
            logger.info("comparing %s with torch", engine)
            parity[engine] = measure_parity(read_bundle(folder), backbone.module, engine)
        write_manifest(folder, replace(manifest, parity={"tolerance": TOLERANCE, **parity}))
    return read_bundle(Path(bundle))


def kinds_of(module: ConditionedTextEncoder) -> dict[str, KindShape]:
    """The kinds of prompt that the module takes, and their shapes."""
    kinds: dict[str, KindShape] = {"soft": (None, module.embedding_size)}
    if not module.prefix_refusal:
        heads, head_dim = module.layer_shapes[0]
        kinds["prefix"] = (len(module.layer_shapes), 2, heads, None, head_dim)
    return kinds


def refused_kinds(module: ConditionedTextEncoder) -> dict[str, str]:
    """Why the module does not take a kind that text encoders can, by kind."""
    return {"prefix": module.prefix_refusal} if module.prefix_refusal else {}


def _write_graph(form: Format, backbone: LoadedBackbone, folder: Path) -> Graph:
    metadata = {
        "edge-prompt": __version__,
        "fingerprint": backbone.fingerprint,
        "source": backbone.source_name,
    }
    files = form.write(backbone.module, folder, metadata)
    return Graph(
        engine=form.engine,
        file=files[0],
        weights="fp32",
        inputs=backbone.module.input_names,
        outputs=backbone.module.output_names,
        sha256={name: sha256_of(folder / name) for name in files},
    )


def _copy_files(backbone: LoadedBackbone, folder: Path) -> None:
    arguments = backbone.options.arguments()
    for name in COPIED_FILES:
        found = cached_file(
            backbone.source,
            name,
            revision=arguments["revision"],
            cache_dir=arguments["cache_dir"],
            _raise_exceptions_for_missing_entries=False,
        )
        if found:
            shutil.copyfile(found, folder / name)
    backend: Any = getattr(backbone.tokenizer, "backend_tokenizer", None)
    if backend is not None and not (folder / TOKENIZER_NAME).exists():  # the checkpoint brings an older form
        backend.save(str(folder / TOKENIZER_NAME))


def _manifest(backbone: LoadedBackbone, graphs: Mapping[str, Graph], folder: Path) -> Manifest:
    config, module = backbone.config, backbone.module
    pad_token_id = getattr(backbone.tokenizer, "pad_token_id", None)
    pad_token_id = getattr(config, "pad_token_id", None) if pad_token_id is None else pad_token_id
    return Manifest(
        backbone=Backbone(
            source=backbone.source_name,
            revision=backbone.options.revision,
            model_type=config.model_type,
            architecture=type(module.model).__name__,
            task=module.task,
            num_parameters=backbone.num_parameters,
            feature_size=module.feature_size,
            fingerprint=backbone.fingerprint,
            labels=backbone.labels,
        ),
        graphs=graphs,
        kinds=kinds_of(module),
        refused_kinds=refused_kinds(module),
        preprocessing=Preprocessing(
            max_tokens=backbone.max_tokens,
            max_positions=backbone.max_positions,
            vocab_size=int(module.embedding.weight.shape[0]),
            num_token_types=max(1, getattr(config, "type_vocab_size", 1)),
            pad_token_id=pad_token_id or 0,
            pooling=module.pooling,
            normalize=backbone.sentence.normalize,
        ),
        files={name: sha256_of(folder / name) for name in (*COPIED_FILES, REFERENCE_NAME) if (folder / name).exists()},
        parity={},
        versions={"edge-prompt": __version__} | {name: version(name) for name in _VERSIONS_OF},
    )
