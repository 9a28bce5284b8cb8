"""The reference of a bundle: torch's outputs at export, with which a device checks its engine without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_prompt.base.errors import ManifestError, ParityError
from edge_prompt.formats.bundle import REFERENCE_NAME, Bundle
from edge_prompt.formats.manifest import MANIFEST_NAME, Graph, LanguageManifest
from edge_prompt.untrusted.json_fields import Fields
from edge_prompt.untrusted.npy import FloatArray, read_npz
from edge_prompt_runtime.engines.base import open_engine
from edge_prompt_runtime.execution.network import batch_outputs
from edge_prompt_runtime.factory import open_network
from edge_prompt_runtime.tasks.deep_prompts import DeepPromptFolder
from edge_prompt_runtime.tasks.task import Float32, as_inputs, base_task

BASE = "base"
"""Used in place of a kind for the base model, which has no prompt."""

TOLERANCE = 1e-4
"""The largest difference between torch and an engine in fp32, relative to `max(1, |reference|)`."""

MARGIN = 3
"""How many times the difference measured at export a graph with quantised weights may have on another machine.
Processors multiply 8-bit numbers differently: on DINOv2-small, OpenVINO without VNNI differed twice as much from torch
as with it, and was correct just as often."""


def difference(found: Mapping[str, NDArray[Any]], reference: Mapping[str, NDArray[Any]]) -> float:
    """Return the largest difference of the outputs in `found`, relative to `max(1, |reference|)`; infinity for NaN."""
    worst = 0.0
    for name, array in found.items():
        scale = max(1.0, float(np.abs(reference[name]).max(initial=0.0)))
        gap = float(np.abs(array - reference[name]).max(initial=0.0)) / scale
        worst = max(worst, gap if gap == gap else float("inf"))  # noqa: PLR0124 - NaN is not equal to itself
    return worst


def check_reference(bundle: Bundle, engine: str) -> dict[str, float]:
    """Run the reference request with a prompt of each kind and without one, and compare with torch's outputs.

    Args:
        bundle: The bundle.
        engine: The engine to run it on.

    Returns:
        The difference by kind; `base` is the network without a prompt.

    Raises:
        ManifestError: The bundle is altered, has no reference, or lacks the measured differences of quantised weights.
        ParityError: A difference exceeds the bound that `bounds_of` gives.
        UnknownEngineError, MissingExtraError: The engine cannot run it.
    """
    bounds = bounds_of(bundle, engine)
    figures = compare_reference(bundle, engine)
    for kind, figure in figures.items():
        if not figure <= bounds[kind]:
            raise ParityError(
                found=f"{bundle.folder} on {engine}, {kind}: the outputs differ by {figure:.1e} from torch's at export",
                wanted=f"at most {bounds[kind]:.2g}",
                remedy="try another engine or another version of it, and do not trust the answers of this one",
            )
    return figures


def compare_reference(bundle: Bundle, engine: str) -> dict[str, float]:
    """Return the differences that `check_reference` measures, without checking them against bounds.

    Raises:
        ManifestError: The bundle is altered or has no reference.
        UnknownEngineError, MissingExtraError: The engine cannot run it.
    """
    graph = bundle.graph(engine)
    kinds, output = tuple(bundle.manifest.kinds), graph.outputs[0]
    arrays = _reference(bundle, graph)
    base, fold = base_task(bundle.manifest), DeepPromptFolder(bundle, engine)
    tasks = {BASE: base} | {
        kind: replace(base, prompts={**base.prompts, **as_inputs(kind, arrays[kind].astype(np.float32), fold)})
        for kind in kinds
    }
    requests, network, _ = open_network(bundle, *open_engine(bundle, engine), compiled_budget_bytes=0)
    read: Any = ...
    if isinstance(bundle.manifest, LanguageManifest):
        read = arrays["attention_mask"] > 0  # padded positions have no output
    figures = {}
    for kind, task in tasks.items():
        request = requests.read(_request(bundle, graph, arrays), task)
        found = batch_outputs(network, request, (output,))
        figures[kind] = difference({output: found[output][read]}, {output: arrays[f"{output}_{kind}"][read]})
    return figures


def bounds_of(bundle: Bundle, engine: str) -> dict[str, float]:
    """Return how much the graph may differ from torch, by kind; `base` is the network without a prompt.

    For fp32 weights this is `TOLERANCE`; for lower precisions it is `MARGIN` times the difference measured at export.

    Raises:
        ManifestError: The precision of the weights is unknown, or the measured differences are missing.
    """
    graph, kinds = bundle.graph(engine), (BASE, *bundle.manifest.kinds)
    if graph.weights not in _BOUNDS:
        raise ManifestError(
            found=f"{graph.file} has weights in {graph.weights[:40]!r}",
            wanted=f"one of {', '.join(_BOUNDS)}",
            remedy="install a newer edge-prompt",
        )
    return _BOUNDS[graph.weights](bundle, engine, kinds)


def _fp32_bounds(_bundle: Bundle, _engine: str, kinds: Sequence[str]) -> dict[str, float]:
    return dict.fromkeys(kinds, TOLERANCE)


def _measured_bounds(bundle: Bundle, engine: str, kinds: Sequence[str]) -> dict[str, float]:
    parity = Fields(bundle.manifest.parity, f"{bundle.folder / MANIFEST_NAME}: parity", ManifestError)
    measured = parity.inside(engine).inside("reference")
    return {kind: max(TOLERANCE, MARGIN * measured.take(kind, float)) for kind in kinds}


_BOUNDS: dict[str, Callable[[Bundle, str, Sequence[str]], dict[str, float]]] = {
    "fp32": _fp32_bounds,
    "fp16": _measured_bounds,
    "int8": _measured_bounds,
    "int4": _measured_bounds,
}


def reference_prompts(bundle: Bundle, engine: str) -> dict[str, Float32]:
    """Return the random prompts, one per kind, that the bundle's reference was made with.

    Raises:
        ManifestError: The bundle is altered or has no reference.
    """
    arrays = _reference(bundle, bundle.graph(engine))
    return {kind: arrays[kind].astype(np.float32) for kind in bundle.manifest.kinds}


def reference_request(bundle: Bundle, engine: str) -> dict[str, NDArray[Any]]:
    """Return the arrays of the request, by name, that the bundle's reference was made with.

    Raises:
        ManifestError: The bundle is altered or has no reference.
    """
    graph = bundle.graph(engine)
    return _request(bundle, graph, _reference(bundle, graph))


def _request(bundle: Bundle, graph: Graph, arrays: Mapping[str, FloatArray]) -> dict[str, NDArray[Any]]:
    preprocessing = bundle.manifest.preprocessing
    return {name: arrays[name].astype(preprocessing.dtype_of(name)) for name in _request_names(bundle, graph)}


def _request_names(bundle: Bundle, graph: Graph) -> list[str]:
    """The request arrays that this network reads, including the mask when the graph takes lengths instead of it."""
    names = bundle.manifest.preprocessing.input_names
    return [name for name in names if name in graph.inputs or isinstance(bundle.manifest, LanguageManifest)]


def _reference(bundle: Bundle, graph: Graph) -> Mapping[str, FloatArray]:
    """The request, the prompts and torch's outputs."""
    path = bundle.file(REFERENCE_NAME)
    if path is None:
        raise ManifestError(
            found=f"{bundle.folder} has no {REFERENCE_NAME}",
            wanted="a bundle with a reference",
            remedy="export the backbone again",
        )
    kinds = tuple(bundle.manifest.kinds)
    outputs = (f"{graph.outputs[0]}_{kind}" for kind in (*kinds, BASE))
    return read_npz(path, frozenset({*_request_names(bundle, graph), *kinds, *outputs}))
