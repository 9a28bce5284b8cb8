"""Quantise an fp32 image bundle to int8 graphs, calibrated with prompts."""

from __future__ import annotations

import importlib
import itertools
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edge_prompt.base.errors import InputError, MissingFileError, ParityError, UnsupportedArchitectureError
from edge_prompt.base.extras import require_extra
from edge_prompt.formats.bundle import PROMPTS_FOLDER, Bundle, read_bundle
from edge_prompt.formats.manifest import Graph, write_manifest
from edge_prompt.formats.preprocessing import modality_of
from edge_prompt.formats.prompt import PROMPT_SUFFIX
from edge_prompt.storage.files import folder_written_atomically, resolve_inside, sha256_of
from edge_prompt_export.base.scratch import scratch_in
from edge_prompt_export.modalities.image.data import IMAGE_SUFFIXES
from edge_prompt_runtime.engines.base import Arrays, open_engine
from edge_prompt_runtime.execution.network import arrays_of, group_rows
from edge_prompt_runtime.inputs.requests import open_requests
from edge_prompt_runtime.reference import BASE, compare_reference, difference, reference_prompts
from edge_prompt_runtime.tasks.deep_prompts import DeepPromptFolder
from edge_prompt_runtime.tasks.task import Task, as_inputs, base_task, load_task

logger = logging.getLogger(__name__)

MOST_IMAGES = 300
"""Maximum number of calibration images; of more, an even sample is used, since the ranges no longer change."""

BATCH_SIZE = 4
"""Images per calibration batch; the batches alternate between the prompts."""

COMPARED_IMAGES = 32
"""Number of images on which the features before and after are compared."""

TOLERANCE = 0.35
"""Largest allowed difference of the int8 features from those in fp32, relative to the largest feature. The limit
detects broken graphs, not small losses."""

_VERSIONS_OF = ("edge-prompt", "nncf", "onnxruntime", "openvino")

Quantize = Callable[[Path, Path | None, Path, Sequence[Arrays]], tuple[str, ...]]
"""Quantises a graph. Takes its file, its weights file, the folder to write to, and the feeds to calibrate on; returns
the names of the files written."""


def quantize_bundle(
    bundle: str | Path, output: str | Path, images: str | Path | Sequence[Any], prompts: Sequence[str | Path] = ()
) -> Bundle:
    """Quantise the graphs of an image bundle to int8. Prompts, heads and folding stay in full precision.

    Args:
        bundle: The folder of a bundle in fp32.
        output: The bundle to write; it must not exist.
        images: A folder of images, or a list of images as in a request (paths, arrays): 100 to 300 that resemble the
            expected requests.
        prompts: Prompts to calibrate with. If empty, those in the bundle's folder `prompts` are used; if there are
            none, the random prompts of the bundle's reference.

    Returns:
        The new bundle. It keeps the fingerprint of the old one, so prompts remain valid.

    Raises:
        UnsupportedArchitectureError: The bundle does not read images.
        InputError: The bundle is not in fp32, or there are no images.
        MissingExtraError: A package for quantisation is not installed.
        ParityError: An int8 graph differs too much from the fp32 graph. Nothing is left behind.
        WriteError: `output` exists already, or cannot be written.
    """
    require_extra("quantize", "quantising")
    source = read_bundle(Path(bundle))
    _require_quantizable(source)
    items = _sampled(_items(images))
    with folder_written_atomically(Path(output)) as folder, scratch_in(folder):
        _copy_unaltered(source, folder)
        tasks = {engine: _tasks(source, engine, prompts) for engine in source.manifest.graphs}
        graphs = {}
        for engine, graph in source.manifest.graphs.items():
            logger.info("quantising for %s", engine)
            feeds = list(_feeds(source, graph, items, list(tasks[engine].values())))
            files = _quantize_of(engine)(*source.files_of(graph), folder, feeds)
            digests = {name: sha256_of(folder / name) for name in files}
            graphs[engine] = replace(graph, file=files[0], weights="int8", sha256=digests, weights_file=None)
        versions = {**source.manifest.versions, **{name: version(name) for name in _VERSIONS_OF}}
        manifest = replace(source.manifest, graphs=graphs, versions=versions)
        write_manifest(folder, manifest)
        parity: dict[str, Any] = {"tolerance": TOLERANCE}
        for engine in graphs:
            logger.info("comparing %s with fp32", engine)
            written = read_bundle(folder)
            compared = _rounded(_compare(source, written, engine, items[:COMPARED_IMAGES], tasks[engine]))
            reference = _rounded(compare_reference(written, engine))
            parity[engine] = {"fp32": max(compared.values()), "fp32_by_prompt": compared, "reference": reference}
        write_manifest(folder, replace(manifest, parity=parity))
    return read_bundle(Path(output))


def _quantize_of(engine: str) -> Quantize:
    """The function that quantises graphs of `engine`; imported on demand, since it needs optional packages."""
    quantize_graph: Quantize = importlib.import_module(_MODULES[engine]).quantize_graph
    return quantize_graph


_MODULES = {
    "onnxruntime": "edge_prompt_export.compression.onnx.activations",
    "openvino": "edge_prompt_export.compression.openvino.activations",
}


def _require_quantizable(bundle: Bundle) -> None:
    modality = modality_of(bundle.manifest.preprocessing)
    if modality != "image":
        raise UnsupportedArchitectureError(
            found=f"{bundle.folder} reads {modality}",
            wanted="a backbone that reads images, since no others can be quantised yet",
            remedy="use the bundle as it is, or in bf16 on OpenVINO",
        )
    weights = {graph.weights for graph in bundle.manifest.graphs.values()}
    if weights != {"fp32"}:
        raise InputError(
            found=f"{bundle.folder} has graphs in {', '.join(sorted(weights))}",
            wanted="a bundle in fp32",
            remedy="quantise the bundle as it was exported in fp32",
        )


def _items(images: str | Path | Sequence[Any]) -> list[Any]:
    """The given images, or all images in the given folder, sorted by path."""
    if not isinstance(images, str | Path):
        items = list(images)
    elif Path(images).is_dir():
        items = sorted(path for path in Path(images).rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    else:
        raise MissingFileError(found=f"{images}: no such folder", wanted="a folder of images", remedy="check the path")
    if not items:
        raise InputError(
            found=f"no image in {images}" if isinstance(images, str | Path) else "no image",
            wanted=f"100 to {MOST_IMAGES} images that resemble the expected requests",
            remedy="pass a folder of such images",
        )
    return items


def _sampled(items: list[Any]) -> list[Any]:
    """An even sample of at most `MOST_IMAGES` items, in random order."""
    places = np.linspace(0, len(items) - 1, min(len(items), MOST_IMAGES)).astype(int)
    return [items[place] for place in np.random.default_rng(0).permutation(places)]


def _tasks(bundle: Bundle, engine: str, prompts: Sequence[str | Path]) -> dict[str, Task]:
    """The tasks that calibration alternates between: the base model, and one task per prompt."""
    base, fold = base_task(bundle.manifest), DeepPromptFolder(bundle, engine)
    paths = [Path(path) for path in prompts] or sorted((bundle.folder / PROMPTS_FOLDER).glob(f"*{PROMPT_SUFFIX}"))
    if paths:
        return {BASE: base} | {path.stem: load_task(path.stem, path, None, bundle, base, fold) for path in paths}
    return {BASE: base} | {
        kind: replace(base, prompts={**base.prompts, **as_inputs(kind, array, fold)})
        for kind, array in reference_prompts(bundle, engine).items()
    }


def _feeds(bundle: Bundle, graph: Graph, items: Sequence[Any], tasks: Sequence[Task]) -> Iterator[Arrays]:
    """The graph's inputs for all images, made by the device runtime; the batches alternate between the tasks."""
    requests, in_turn = open_requests(bundle), itertools.cycle(tasks)
    for start in range(0, len(items), BATCH_SIZE):
        task = next(in_turn)
        request = requests.read(items[start : start + BATCH_SIZE], task)
        for rows in group_rows(request):
            feeds = {**arrays_of(request, rows), **task.prompts}
            yield {name: feeds[name] for name in graph.inputs}


def _compare(
    source: Bundle, quantized: Bundle, engine: str, items: Sequence[Any], tasks: Mapping[str, Task]
) -> dict[str, float]:
    """The largest difference of the int8 features from those in fp32, by task."""
    engines = [open_engine(bundle, engine)[1] for bundle in (source, quantized)]
    worst = dict.fromkeys(tasks, 0.0)
    for name, task in tasks.items():
        for feeds in _feeds(source, source.graph(engine), items, [task]):
            wanted, found = (opened.run(feeds, ("features",)) for opened in engines)
            worst[name] = max(worst[name], difference(found, wanted))
        if not worst[name] <= TOLERANCE:
            raise ParityError(
                found=f"{source.folder} on {engine}, {name}: int8 features differ from fp32 by {worst[name]:.1e}",
                wanted=f"at most {TOLERANCE:.2g}",
                remedy="calibrate on more images that resemble the expected requests, or keep this backbone in fp32 "
                "or bf16",
            )
    return worst


def _rounded(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: float(f"{value:.2e}") for name, value in figures.items()}


def _copy_unaltered(source: Bundle, folder: Path) -> None:
    """Copy everything that is not quantised: the companion files, and the folding graphs with their fp32 weights."""
    digests = dict(source.manifest.files)
    for graph in source.manifest.fold_graphs.values():
        digests |= graph.sha256
    source.require_unaltered(digests)
    for name in digests:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(resolve_inside(source.folder, name), folder / name)
