"""The reference of a bundle: what torch gave at export, so that a device can check its engine without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_prompt.arrays import read_npz
from edge_prompt.bundle import REFERENCE_NAME, Bundle
from edge_prompt.errors import ManifestError, ParityError
from edge_prompt.manifest import TOKEN_INPUTS
from edge_prompt_runtime.engines import open_engine
from edge_prompt_runtime.feeds import feeds_of
from edge_prompt_runtime.tasks import base_task
from edge_prompt_runtime.tokenizing import TokenBatch

TOLERANCE = 1e-4
"""The largest difference between torch and an engine in fp32, relative to `max(1, |reference|)`."""


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
        ParityError: A difference is above `TOLERANCE`.
        UnknownEngineError, MissingExtraError: The engine cannot run it.
    """
    path = bundle.file(REFERENCE_NAME)
    if path is None:
        raise ManifestError(
            found=f"{bundle.folder} has no {REFERENCE_NAME}", wanted="one", remedy="export the backbone again"
        )
    graph = bundle.graph(engine)
    kinds = tuple(bundle.manifest.kinds)
    names = {name for name in TOKEN_INPUTS if name in graph.inputs}
    arrays = read_npz(path, frozenset(names | set(kinds) | {f"features_{kind}" for kind in (*kinds, "base")}))
    rows = {name: arrays[name].astype(np.int64) for name in names}
    types = rows.get("token_type_ids", np.zeros_like(rows["input_ids"]))
    tokens = TokenBatch(rows["input_ids"], rows["attention_mask"], types)
    base = base_task(bundle.manifest)
    tasks = {"base": base} | {
        kind: replace(base, soft_prompt=arrays[kind][None].astype(np.float32))
        if kind == "soft"
        else replace(base, prefix=arrays[kind][:, :, None].astype(np.float32))
        for kind in kinds
    }
    _, opened = open_engine(bundle, engine, None)
    figures = {}
    for kind, task in tasks.items():
        found = opened.run(feeds_of(tokens, [task] * len(tokens.input_ids), graph.inputs), ("features",))
        figures[kind] = difference(found, {"features": arrays[f"features_{kind}"]})
        if not figures[kind] <= TOLERANCE:
            raise ParityError(
                found=f"{bundle.folder} on {engine}, {kind}: {figures[kind]:.1e} from what torch gave at export",
                wanted=f"at most {TOLERANCE:.0e}",
                remedy="try another engine or version of it; do not trust this one's answers",
            )
    return figures
