"""The engines: what runs a graph on the device. One file an engine, imported when it is asked for."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_prompt.base.errors import UnknownEngineError
from edge_prompt.base.extras import require_extra
from edge_prompt.base.telemetry import refuse_telemetry
from edge_prompt.formats.bundle import Bundle
from edge_prompt.formats.graph_files import require_known_graph
from edge_prompt.formats.manifest import Graph
from edge_prompt_runtime.engines.model_cache import folder_of
from edge_prompt_runtime.engines.settings import DEFAULTS, EngineSettings, require_sound

refuse_telemetry()  # before an engine's own file is imported

LOG = logging.getLogger("edge_prompt.engines")

Arrays = Mapping[str, NDArray[Any]]
"""Arrays by the name of the graph's input or output."""


Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]

Past = Sequence[Float32]
"""Keys, then values, a layer: `[1, num_kv_heads, length, head_dim]` each, C-ordered."""


class HeldPast(list[Float32]):
    """A past that is told from others by what it is, whatever numbers are in it.

    So an engine knows a past again that it wrote where rows begin, and rows that begin with it find it there.
    """


class CachedRun(Protocol):
    """Rows under way in a causal language model: keys and values of all they have read. One thread uses it.

    A row has its own length and no padding, so it has the numbers that it has alone. However the run ends, `close` it:
    it may hold what the next one needs.
    """

    def read(self, rows: Sequence[Int64], *, every: bool = False, soft_prompt: Float32 | None = None) -> list[Float32]:
        """Read on.

        Args:
            rows: The tokens of each row, `[length]`, at least one; lengths may differ.
            every: Whether to give the logits after every token, or after the last of each row alone.
            soft_prompt: `[1, num_virtual_tokens, hidden_size]`: what a single row reads before its tokens, of which it
                may then have none.

        Returns:
            The logits of each row, `[length or 1, vocab_size]`. The next call may write where they lie.
        """

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only, in this order; they may repeat."""

    def cache(self) -> Past:
        """What a single row has read, the caller's own."""

    def close(self) -> None:
        """Let go of the cache."""


class Engine(Protocol):
    """One opened graph. Any number of threads may call its methods at once."""

    def __init__(self, graph_file: Path, weights_file: Path | None, settings: EngineSettings) -> None:
        """Open `graph_file`, whose weights lie in `weights_file` if that is not said in it."""

    def run(self, feeds: Arrays, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        """Run the graph on `feeds`, all its inputs by name; the arrays returned are the caller's own."""

    def begin(self, held: Sequence[HeldPast]) -> CachedRun:
        """Start rows, each from a past, which is written where they append if it does not lie there already."""


ENGINES = {
    "onnxruntime": "edge_prompt_runtime.engines.onnxruntime.engine",
    "openvino": "edge_prompt_runtime.engines.openvino.engine",
}
"""The module of each engine; its class is `GraphEngine`. The name is also that of the package and of the extra."""


def open_engine(bundle: Bundle, name: str | None, settings: EngineSettings = DEFAULTS) -> tuple[str, Engine]:
    """Open the bundle's graph.

    Args:
        bundle: The bundle.
        name: A key of `ENGINES`; None takes the first that is installed and that the bundle has a graph for.
        settings: How to run it.

    Returns:
        The name of the engine, and the engine.

    Raises:
        UnknownEngineError: There is no such engine, or the bundle has no graph for it.
        MissingExtraError: The engine is not installed.
        ManifestError: The graph is missing or altered.
        InputError: A setting is out of its range, or the engine does not have it here.
    """
    require_sound(settings)
    name = name or first_installed(bundle)
    if name not in ENGINES:
        raise UnknownEngineError(
            found=f"the engine {name!r}", wanted=f"one of {', '.join(ENGINES)}", remedy="choose one of them"
        )
    return name, open_graph(bundle, bundle.graph(name), settings)


def open_graph(bundle: Bundle, graph: Graph, settings: EngineSettings = DEFAULTS) -> Engine:
    """Open one graph of the bundle.

    Args:
        bundle: The bundle.
        graph: One of its graphs.
        settings: How to run it.

    Raises:
        MissingExtraError: The engine is not installed.
        ManifestError: A file of the graph is missing or altered, it has custom operators, or weights in other files, or
            the engine cannot load it.
        InputError: The engine does not have a setting here.
    """
    began_s = perf_counter()
    require_extra(graph.engine, f"the engine {graph.engine!r}")
    if settings.model_cache is not None:
        settings = settings._replace(model_cache=folder_of(settings.model_cache, graph))
    weights = {name: sha256 for name, sha256 in graph.sha256.items() if name != graph.file}
    bundle.require_unaltered({graph.file: graph.sha256[graph.file]})
    with ThreadPoolExecutor(1) as pool:  # weights are numbers: they may be checked while the engine reads them
        checked = pool.submit(bundle.require_unaltered, weights)
        try:
            require_known_graph(bundle.folder, graph)
            engine = open_file(graph.engine, *bundle.paths_of(graph), settings)
        finally:
            checked.result()  # what is wrong with the file explains what the engine says of it
    took_ms = 1e3 * (perf_counter() - began_s)
    LOG.info("opened %s of %s on %s (%s) in %.0f ms", graph.file, bundle.folder, graph.engine, settings, took_ms)
    return engine


def open_file(name: str, graph_file: Path, weights_file: Path | None, settings: EngineSettings = DEFAULTS) -> Engine:
    """Open a graph's file on the engine `name`, a key of `ENGINES`; see `open_graph`."""
    require_extra(name, f"the engine {name!r}")
    engine: Engine = importlib.import_module(ENGINES[name]).GraphEngine(graph_file, weights_file, settings)
    return engine


def first_installed(bundle: Bundle) -> str:
    """The first engine that is installed and that the bundle has a graph for; if none is, the first of its graphs."""
    usable = [name for name in bundle.manifest.graphs if name in ENGINES]
    return next((name for name in usable if find_spec(name)), next(iter(usable), next(iter(bundle.manifest.graphs))))
