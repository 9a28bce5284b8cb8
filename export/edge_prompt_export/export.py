"""Export a frozen backbone as a bundle: once, for every requested engine and for all later tasks."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn
from transformers.utils import cached_file

from edge_prompt.base.errors import InputError
from edge_prompt.base.version import __version__
from edge_prompt.formats.bundle import REFERENCE_NAME, TOKENIZER_NAME, Bundle, read_bundle
from edge_prompt.formats.kinds import FOLD_INPUTS, FOLD_OUTPUTS
from edge_prompt.formats.kv_cache_names import shared_form, stateful_form
from edge_prompt.formats.manifest import Backbone, Graph, Manifest, manifest_of, write_manifest
from edge_prompt.storage.files import folder_written_atomically, sha256_of
from edge_prompt_export.backbone.backbone import LoadedBackbone, LoadOptions
from edge_prompt_export.backbone.conditioned_module import ConditionedModule
from edge_prompt_export.base.scratch import scratch_in
from edge_prompt_export.compression.bundle import compress_bundle, require_compressible
from edge_prompt_export.compression.calibration import calibration_feeds
from edge_prompt_export.graphs.fold import GraphFiles
from edge_prompt_export.graphs.onnx.language import write_onnx_of
from edge_prompt_export.graphs.openvino.export import write_openvino
from edge_prompt_export.modalities.custom.checkpoint import load_module
from edge_prompt_export.modalities.custom.network import ModuleDescription
from edge_prompt_export.modalities.language.network import ConditionedCausalLM
from edge_prompt_export.modalities.registry import load_backbone
from edge_prompt_export.parity import measure_parity, write_reference
from edge_prompt_runtime.engines.base import Arrays
from edge_prompt_runtime.reference import TOLERANCE

logger = logging.getLogger(__name__)


class Format(NamedTuple):
    """A graph format.

    Attributes:
        engine: The engine that runs the format.
        write: Writes a module's graphs in this format.
        cached: Converts the inputs and outputs of a causal language model's module to those of its graph.
    """

    engine: str
    write: Callable[[ConditionedModule, Path, Mapping[str, str]], GraphFiles]
    cached: Callable[[Sequence[str], Sequence[str]], tuple[tuple[str, ...], tuple[str, ...]]]


FORMATS = {
    "onnx": Format("onnxruntime", write_onnx_of, shared_form),
    "openvino": Format("openvino", write_openvino, stateful_form),
}

COPIED_FILES = (
    "config.json",
    TOKENIZER_NAME,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "preprocessor_config.json",
    "generation_config.json",
    "chat_template.jinja",
)
"""Files of a checkpoint that are copied into the bundle unchanged."""

_VERSIONS_OF = ("torch", "transformers", "onnx", "onnxscript", "onnxruntime", "openvino")


def export_backbone(
    source: str | Path | nn.Module,
    bundle: str | Path,
    *,
    description: ModuleDescription | None = None,
    formats: Sequence[str] = ("onnx", "openvino"),
    weights: str = "fp32",
    calibrate: str | Path | None = None,
    task: str | None = None,
    pooling: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    cache_dir: str | None = None,
) -> Bundle:
    """Export a frozen backbone with its prompts as inputs, and check it on the engines.

    Args:
        source: A local folder, a name on the hub, or a module of your own.
        bundle: The folder to write; it must not exist.
        description: The inputs and outputs of your own module; see `ModuleDescription`.
        formats: `onnx`, `openvino`, or both.
        weights: Storage format of the weights: `fp32`, `fp16`, `int8` or `int4`. Prompts and heads stay in fp32.
        calibrate: A text file to calibrate `int4` weights on, which reduces their quality loss; takes minutes. Its
            texts should resemble those that the bundle will read.
        task: The task that the network is loaded for, in transformers' terms (`edge-prompt export --help` lists them);
            None uses that of the checkpoint's head, or feature extraction.
        pooling: How token vectors are pooled into the feature vector: `mean`, `cls`, `pooler`, or for text also
            `first`; None uses the checkpoint's setting, or one that suits the architecture.
        revision: Branch, tag or commit on the hub.
        trust_remote_code: Whether code from the checkpoint may run.
        cache_dir: Folder for downloads.

    Returns:
        The bundle.

    Raises:
        BackboneError: The backbone cannot be loaded or lacks weights.
        UnsupportedArchitectureError: The backbone takes no prompt, or a converter does not support it.
        ParityError: The exported graphs differ from torch. Nothing is left behind.
        MissingExtraError: A package for compressing the weights is not installed.
        WriteError: The bundle exists already, or cannot be written.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise InputError(
            found=f"the formats {list(formats)}",
            wanted=f"one or more of {', '.join(FORMATS)}",
            remedy="pass only these",
        )
    require_compressible(weights, [FORMATS[name].engine for name in formats])
    with folder_written_atomically(Path(bundle)) as folder, scratch_in(folder):
        backbone = _load(source, description, task, pooling, LoadOptions(revision, trust_remote_code, cache_dir))
        for kind, reason in backbone.module.refused_kinds.items():
            logger.info("no %s prompts: %s", kind, reason)
        graphs, fold_graphs = {}, {}
        others: list[str] = []
        for name in dict.fromkeys(formats):
            logger.info("writing %s", name)
            graph, fold, more = _write_graphs(FORMATS[name], backbone, folder)
            graphs[graph.engine] = graph
            others += more
            if fold is not None:
                fold_graphs[fold.engine] = fold
        _copy_files(backbone, folder)
        requests = backbone.parity_requests()
        write_reference(folder, backbone.module, requests)
        manifest = replace(_manifest(backbone, graphs, others, folder), fold_graphs=fold_graphs)
        write_manifest(folder, manifest)
        parity = {}
        for engine in graphs:
            logger.info("comparing %s with torch", engine)
            parity[engine] = measure_parity(read_bundle(folder), backbone.module, requests, engine)
        write_manifest(folder, replace(manifest, parity={"tolerance": TOLERANCE, **parity}))
        if weights != "fp32":
            compress_bundle(folder, weights, _feeds(backbone, manifest, calibrate))
    return read_bundle(Path(bundle))


def _feeds(backbone: LoadedBackbone, manifest: Manifest, calibrate: str | Path | None) -> dict[str, list[Arrays]]:
    """Inputs of the graphs to calibrate weights on, by engine; empty without a calibration file."""
    if calibrate is None:
        return {}
    return {
        engine: calibration_feeds(Path(calibrate), backbone, graph.inputs) for engine, graph in manifest.graphs.items()
    }


def _load(
    source: str | Path | nn.Module,
    description: ModuleDescription | None,
    task: str | None,
    pooling: str | None,
    options: LoadOptions,
) -> LoadedBackbone:
    if isinstance(source, nn.Module) and description is not None:
        return load_module(source, description)
    if isinstance(source, nn.Module) or description is not None:
        raise InputError(
            found="a module without a description" if description is None else f"a description of {source}",
            wanted="a module of your own with its description, or a folder or hub name without one",
            remedy="pass the module together with its description, or leave the description out",
        )
    logger.info("loading %s", source)
    return load_backbone(str(source), task, pooling, options)


def _write_graphs(form: Format, backbone: LoadedBackbone, folder: Path) -> tuple[Graph, Graph | None, tuple[str, ...]]:
    """Write the network's graphs.

    Returns:
        The main graph, the folding graph (None if the network takes no deep prompts), and the names of extra files.
    """
    metadata = {
        "edge-prompt": __version__,
        "fingerprint": backbone.fingerprint,
        "source": backbone.source_name,
    }
    module = backbone.module
    files = form.write(module, folder, metadata)
    inputs, outputs = module.input_names, module.output_names
    if isinstance(module, ConditionedCausalLM):
        inputs, outputs = form.cached(inputs, outputs)
    graph = _graph(form.engine, files.model, inputs, outputs, folder)
    if not files.fold:
        return graph, None, files.others
    fold = _graph(form.engine, files.fold, FOLD_INPUTS, FOLD_OUTPUTS, folder)
    return graph, replace(fold, weights_file=files.fold_weights_file), files.others


def _graph(
    engine: str, files: tuple[str, ...], inputs: tuple[str, ...], outputs: tuple[str, ...], folder: Path
) -> Graph:
    return Graph(engine, files[0], "fp32", inputs, outputs, {name: sha256_of(folder / name) for name in files})


def _copy_files(backbone: LoadedBackbone, folder: Path) -> None:
    if backbone.config is None:
        return
    for name in COPIED_FILES:
        found = cached_file(
            backbone.source, name, _raise_exceptions_for_missing_entries=False, **backbone.options.file_arguments()
        )
        if found:
            shutil.copyfile(found, folder / name)
    if backbone.options.gguf_file is not None:
        _write_files(backbone, folder)
    backend: Any = getattr(backbone.tokenizer, "backend_tokenizer", None)
    if backend is not None and not (folder / TOKENIZER_NAME).exists():  # the checkpoint has an older format
        backend.save(str(folder / TOKENIZER_NAME))


def _write_files(backbone: LoadedBackbone, folder: Path) -> None:
    """Write the configuration and tokenizer that a GGUF file contains as separate files."""
    model: Any = backbone.module.model
    model.config.to_json_file(folder / "config.json")
    model.generation_config.save_pretrained(folder)
    if backbone.tokenizer is not None:
        backbone.tokenizer.save_pretrained(folder)


def _manifest(backbone: LoadedBackbone, graphs: Mapping[str, Graph], others: Sequence[str], folder: Path) -> Manifest:
    config, module = backbone.config, backbone.module
    return manifest_of(
        backbone.preprocessing,
        module.layer_shapes if isinstance(module, ConditionedCausalLM) else (),
        backbone=Backbone(
            source=backbone.source_name,
            revision=backbone.options.revision,
            model_type=getattr(config, "model_type", ""),
            architecture=type(module.model).__name__,
            task=module.task,
            num_parameters=backbone.num_parameters,
            feature_size=module.feature_size,
            fingerprint=backbone.fingerprint,
            labels=backbone.labels,
            problem_type=backbone.problem_type,
        ),
        graphs=graphs,
        kinds=module.kinds,
        refused_kinds=module.refused_kinds,
        files={
            name: sha256_of(folder / name)
            for name in (*COPIED_FILES, REFERENCE_NAME, *others)
            if (folder / name).exists()
        },
        parity={},
        versions={"edge-prompt": __version__} | {name: version(name) for name in _VERSIONS_OF},
    )
