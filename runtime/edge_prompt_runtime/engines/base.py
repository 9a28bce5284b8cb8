"""The interface of engines, which run a graph on the device; an engine is imported when it is used."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_prompt.base.errors import UnknownEngineError
from edge_prompt.base.extras import require_extra
from edge_prompt.formats.bundle import Bundle
from edge_prompt.formats.graph_files import require_known_graph
from edge_prompt.formats.manifest import Graph
from edge_prompt_runtime.engines.model_cache import folder_of
from edge_prompt_runtime.engines.options import DEFAULTS, EngineOptions, require_valid_options

LOG = logging.getLogger("edge_prompt.engines")

Arrays = Mapping[str, NDArray[Any]]
"""Arrays by the name of the graph's input or output."""


Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]

Past = Sequence[Float32]
"""Keys and values, alternating by layer: `[1, num_kv_heads, length, head_dim]` each, C-ordered."""


class HeldPast(list[Float32]):
    """A past that is compared by identity, not by its numbers.

    So an engine recognises a past that it has already written to its buffers, and need not write it again.
    """


class CachedRun(Protocol):
    """Rows in progress in a causal language model, with the keys and values of all tokens read. Used by one thread.

    Each row has its own length and no padding, so its numbers are the same as for the row alone. Always `close` a run,
    because the next run may need its buffers.
    """

    def forward(
        self, rows: Sequence[Int64], *, every: bool = False, soft_prompt: Float32 | None = None
    ) -> list[Float32]:
        """Read the next tokens of each row.

        Args:
            rows: The tokens of each row, `[length]`, at least one; lengths may differ.
            every: Whether to return the logits after every token, or only after the last token of each row.
            soft_prompt: `[1, num_virtual_tokens, hidden_size]`, read before the tokens of a single row, which may then
                have no tokens.

        Returns:
            The logits of each row, `[length or 1, vocab_size]`. The next call may overwrite them.
        """

    def keep(self, rows: Sequence[int]) -> None:
        """Continue with these rows only, in this order; rows may repeat."""

    def cache(self) -> Past:
        """Return a copy of the keys and values of a single row."""

    def close(self) -> None:
        """Release the cache."""


class Engine(Protocol):
    """One open graph. Thread-safe."""

    def __init__(self, graph_file: Path, weights_file: Path | None, options: EngineOptions) -> None:
        """Open `graph_file`; `weights_file` holds its weights if the graph does not name the file itself."""

    def run(self, feeds: Arrays, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Run the graph on `feeds`, all its inputs by name; the caller owns the returned arrays."""

    def begin(self, held: Sequence[HeldPast]) -> CachedRun:
        """Start rows, each from its past, which is written to the row's buffer unless it is already there."""


ENGINES = {
    "onnxruntime": "edge_prompt_runtime.engines.onnxruntime.engine",
    "openvino": "edge_prompt_runtime.engines.openvino.engine",
}
"""The module of each engine, with the class `GraphEngine`. Package and extra have the same name as the engine."""


def open_engine(bundle: Bundle, name: str | None, options: EngineOptions = DEFAULTS) -> tuple[str, Engine]:
    """Open the bundle's graph.

    Args:
        bundle: The bundle.
        name: A key of `ENGINES`; None uses the first engine that is installed and that the bundle has a graph for.
        options: Settings of the engine.

    Returns:
        The name of the engine, and the engine.

    Raises:
        UnknownEngineError: The engine does not exist, or the bundle has no graph for it.
        MissingExtraError: The engine is not installed.
        ManifestError: The graph is missing or altered.
        InputError: A setting is out of range, or the engine does not support it here.
    """
    require_valid_options(options)
    name = name or first_installed(bundle)
    if name not in ENGINES:
        raise UnknownEngineError(
            found=f"there is no engine {name!r}", wanted=f"one of {', '.join(ENGINES)}", remedy="choose one of them"
        )
    return name, open_graph(bundle, bundle.graph(name), options)


def open_graph(bundle: Bundle, graph: Graph, options: EngineOptions = DEFAULTS) -> Engine:
    """Open one graph of the bundle.

    Args:
        bundle: The bundle.
        graph: One of its graphs.
        options: Settings of the engine.

    Raises:
        MissingExtraError: The engine is not installed.
        ManifestError: A file of the graph is missing or altered, the graph has custom operators or weights in other
            files, or the engine cannot load it.
        InputError: The engine does not support a setting here.
    """
    began_s = perf_counter()
    require_extra(graph.engine, f"the engine {graph.engine!r}")
    if options.model_cache is not None:
        options = replace(options, model_cache=folder_of(options.model_cache, graph))
    weights = {name: sha256 for name, sha256 in graph.sha256.items() if name != graph.file}
    bundle.require_unaltered({graph.file: graph.sha256[graph.file]})
    with ThreadPoolExecutor(1) as pool:  # weights are only numbers, so they can be checked while the engine reads them
        checked = pool.submit(bundle.require_unaltered, weights)
        try:
            require_known_graph(bundle.folder, graph)
            engine = open_file(graph.engine, *bundle.paths_of(graph), options)
        finally:
            checked.result()  # an altered file explains the engine's own error
    took_ms = 1e3 * (perf_counter() - began_s)
    LOG.info("opened %s of %s on %s (%s) in %.0f ms", graph.file, bundle.folder, graph.engine, options, took_ms)
    return engine


def open_file(name: str, graph_file: Path, weights_file: Path | None, options: EngineOptions = DEFAULTS) -> Engine:
    """Open the file of a graph on the engine `name`, a key of `ENGINES`; see `open_graph`."""
    require_extra(name, f"the engine {name!r}")
    engine: Engine = importlib.import_module(ENGINES[name]).GraphEngine(graph_file, weights_file, options)
    return engine


def first_installed(bundle: Bundle) -> str:
    """Return the first installed engine that the bundle has a graph for; if there is none, that of its first graph."""
    usable = [name for name in bundle.manifest.graphs if name in ENGINES]
    return next((name for name in usable if find_spec(name)), next(iter(usable), next(iter(bundle.manifest.graphs))))
