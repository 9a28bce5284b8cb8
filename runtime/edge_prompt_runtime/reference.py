"""The reference of a bundle: what torch gave at export, so that a device can check its engine without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_prompt.arrays import FloatArray, read_npz
from edge_prompt.bundle import REFERENCE_NAME, Bundle
from edge_prompt.errors import ManifestError, ParityError
from edge_prompt.manifest import Graph
from edge_prompt_runtime.engines import open_engine
from edge_prompt_runtime.feeds import feeds_of
from edge_prompt_runtime.folding import Folder
from edge_prompt_runtime.requests import open_requests
from edge_prompt_runtime.tasks import Float32, as_inputs, base_task

BASE = "base"
"""Stands for no prompt where others stand for a kind."""

TOLERANCE = 1e-4
"""The largest difference between torch and an engine in fp32, relative to `max(1, |reference|)`."""

TOLERANCES = {"fp32": TOLERANCE, "int8": 0.35}
"""The same by a graph's weights. What int8 costs was measured; the bound tells a broken graph from a coarse one."""


def difference(found: Mapping[str, NDArray[Any]], reference: Mapping[str, NDArray[Any]]) -> float:
    """The largest difference over the outputs in `found`, relative to `max(1, |reference|)`; infinity for NaN."""
    worst = 0.0
    for name, array in found.items():
        scale = max(1.0, float(np.abs(reference[name]).max(initial=0.0)))
        gap = float(np.abs(array - reference[name]).max(initial=0.0)) / scale
        worst = max(worst, gap if gap == gap else float("inf"))  # noqa: PLR0124 - NaN is not itself
    return worst


def check_reference(bundle: Bundle, engine: str) -> dict[str, float]:
    """Run the reference tokens under a prompt of each kind, and under none, and compare with what torch gave.

    Args:
        bundle: The bundle.
        engine: The engine to run it on.

    Returns:
        The difference by kind; `base` is no prompt.

    Raises:
        ManifestError: The bundle is altered or brings no reference.
        ParityError: A difference is above what `TOLERANCES` allows the graph's weights.
        UnknownEngineError, MissingExtraError: The engine cannot run it.
    """
    graph = bundle.graph(engine)
    tolerance, kinds, output = tolerance_of(graph), tuple(bundle.manifest.kinds), graph.outputs[0]
    arrays = _reference(bundle, graph)
    requests = open_requests(bundle)
    names = _request_names(bundle, graph)
    request = requests.take({name: arrays[name].astype(bundle.manifest.preprocessing.dtype_of(name)) for name in names})
    base, fold = base_task(bundle.manifest), Folder(bundle, engine)
    tasks = {BASE: base} | {
        kind: replace(base, prompts={**base.prompts, **as_inputs(kind, arrays[kind].astype(np.float32), fold)})
        for kind in kinds
    }
    _, opened = open_engine(bundle, engine, None)
    figures = {}
    for kind, task in tasks.items():
        feeds = feeds_of(
            request.of_rows(range(request.rows)), [task] * request.rows, graph.inputs, masked=requests.masked
        )
        found = opened.run(feeds, (output,))
        figures[kind] = difference(found, {output: arrays[f"{output}_{kind}"]})
        if not figures[kind] <= tolerance:
            raise ParityError(
                found=f"{bundle.folder} on {engine}, {kind}: {figures[kind]:.1e} from what torch gave at export",
                wanted=f"at most {tolerance:.2g}",
                remedy="try another engine or version of it; do not trust this one's answers",
            )
    return figures


def tolerance_of(graph: Graph) -> float:
    """How far the graph may be from torch.

    Raises:
        ManifestError: Its weights are of a precision that this code does not know.
    """
    if graph.weights not in TOLERANCES:
        raise ManifestError(
            found=f"{graph.file} with weights in {graph.weights[:40]!r}",
            wanted=f"one of {', '.join(TOLERANCES)}",
            remedy="install a newer edge-prompt",
        )
    return TOLERANCES[graph.weights]


def reference_prompts(bundle: Bundle, engine: str) -> dict[str, Float32]:
    """The random prompts, one a kind, that the bundle's reference was made with.

    Raises:
        ManifestError: The bundle is altered or brings no reference.
    """
    arrays = _reference(bundle, bundle.graph(engine))
    return {kind: arrays[kind].astype(np.float32) for kind in bundle.manifest.kinds}


def _request_names(bundle: Bundle, graph: Graph) -> list[str]:
    return [name for name in bundle.manifest.preprocessing.input_names if name in graph.inputs]


def _reference(bundle: Bundle, graph: Graph) -> Mapping[str, FloatArray]:
    """The request, the prompts and torch's outputs."""
    path = bundle.file(REFERENCE_NAME)
    if path is None:
        raise ManifestError(
            found=f"{bundle.folder} has no {REFERENCE_NAME}", wanted="one", remedy="export the backbone again"
        )
    kinds = tuple(bundle.manifest.kinds)
    outputs = (f"{graph.outputs[0]}_{kind}" for kind in (*kinds, BASE))
    return read_npz(path, frozenset({*_request_names(bundle, graph), *kinds, *outputs}))
