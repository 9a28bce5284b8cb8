"""Compress the weights of a bundle, after its fp32 graphs have passed the parity checks and before it is published."""

from __future__ import annotations

import importlib
import logging
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from edge_prompt.base.errors import InputError, ParityError
from edge_prompt.base.extras import require_extra
from edge_prompt.formats.bundle import Bundle, read_bundle
from edge_prompt.formats.manifest import Graph, Manifest, write_manifest
from edge_prompt.storage.files import sha256_of
from edge_prompt_export.compression.precisions import WEIGHTS, Compress, KeepFold
from edge_prompt_runtime.engines.base import Arrays
from edge_prompt_runtime.reference import compare_reference

logger = logging.getLogger(__name__)


class _Needs(NamedTuple):
    """What compression for an engine needs: the module that does it, and the extra that installs its packages."""

    module: str
    extra: str


_NEEDS = {
    "onnxruntime": _Needs("edge_prompt_export.compression.onnx.weights", "export"),
    "openvino": _Needs("edge_prompt_export.compression.openvino.weights", "quantize"),
}

LOOSEST = {"fp16": 0.05, "int8": 1.0, "int4": 2.0}
"""Largest allowed difference of the reference outputs from torch, relative to the largest output. The limits detect
broken graphs, not small losses: with a random soft prompt, a trained language model differs by 0.7 in int8 and by 1.3
in int4, and by much less on text."""


def require_compressible(weights: str, engines: Sequence[str]) -> None:
    """Check, before anything is loaded, that the weights can be stored in this format.

    Raises:
        InputError: The format of the weights is unknown.
        MissingExtraError: A required package is not installed.
    """
    if weights not in WEIGHTS:
        raise InputError(
            found=f"the weights {weights!r}", wanted=f"one of {', '.join(WEIGHTS)}", remedy="choose one of them"
        )
    if weights != "fp32":
        for engine in engines:
            require_extra(_NEEDS[engine].extra, f"storing weights in {weights} for {engine}")


def compress_bundle(folder: Path, weights: str, feeds: Mapping[str, Sequence[Arrays]]) -> None:
    """Compress the weights of a bundle in place and measure the effect on its outputs. Folding graphs stay in fp32.

    Args:
        folder: A bundle in fp32.
        weights: One of `WEIGHTS` except `fp32`.
        feeds: By engine, batches of all inputs by name to calibrate on; engines may be missing.

    Raises:
        ParityError: A graph is too far from torch.
    """
    bundle = read_bundle(folder)
    manifest = bundle.manifest
    for engine in manifest.graphs:
        logger.info("storing weights for %s in %s", engine, weights)
        manifest = _compressed(bundle, manifest, engine, weights, feeds.get(engine, ()))
    write_manifest(folder, manifest)
    parity = dict(manifest.parity)
    for engine, graph in manifest.graphs.items():
        logger.info("comparing %s in %s with torch", engine, weights)
        figures = compare_reference(read_bundle(folder), engine)
        for kind, figure in figures.items():
            if not figure <= LOOSEST[weights]:
                raise ParityError(
                    found=f"{graph.file} in {weights} differs from torch by {figure:.1e} ({kind})",
                    wanted=f"at most {LOOSEST[weights]:.2g}",
                    remedy="store the weights with more bits",
                )
        rounded = {kind: float(f"{figure:.2e}") for kind, figure in figures.items()}
        parity[engine] = {**parity[engine], "reference": rounded}
    write_manifest(folder, replace(manifest, parity=parity))


def _compressed(bundle: Bundle, manifest: Manifest, engine: str, weights: str, feeds: Sequence[Arrays]) -> Manifest:
    """Replace the files of `engine` by smaller ones and return the new manifest."""
    module = importlib.import_module(_NEEDS[engine].module)
    compress: Compress = module.compress
    keep_fold: KeepFold = module.keep_fold
    folder, graph, fold = bundle.folder, manifest.graphs[engine], manifest.fold_graphs.get(engine)
    others = [name for name in manifest.files if Path(name).suffix == Path(graph.file).suffix]
    replaced = {*graph.sha256, *others, *(fold.sha256 if fold else ())}
    with tempfile.TemporaryDirectory(dir=folder) as name:
        target = Path(name)
        written = compress([folder / file for file in (graph.file, *others)], target, weights, feeds)
        fold_files = keep_fold(*bundle.files_of(fold), target) if fold else ()
        for file in replaced:
            (folder / file).unlink()
        for path in target.iterdir():
            shutil.move(path, folder / path.name)
    small = replace(_graph(graph, written.files, folder), weights=weights, compression=written.how)
    folds = {**manifest.fold_graphs, **({engine: _graph(fold, fold_files, folder)} if fold else {})}
    return replace(
        manifest,
        graphs={**manifest.graphs, engine: small},
        fold_graphs=folds,
        files={**manifest.files, **{file: sha256_of(folder / file) for file in others}},
    )


def _graph(graph: Graph, files: Sequence[str], folder: Path) -> Graph:
    return replace(graph, file=files[0], sha256={name: sha256_of(folder / name) for name in files}, weights_file=None)
