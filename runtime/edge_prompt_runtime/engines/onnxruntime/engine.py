"""ONNX Runtime on the CPU: one session, shared by all threads."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_prompt.base.errors import EdgePromptError, InputError, ManifestError, WriteError
from edge_prompt.storage.files import folder_written_atomically
from edge_prompt_runtime.engines.base import Arrays, Float32, HeldPast
from edge_prompt_runtime.engines.cores import running_on
from edge_prompt_runtime.engines.onnxruntime.buffers import Buffers
from edge_prompt_runtime.engines.onnxruntime.kv_cache import BufferedRows
from edge_prompt_runtime.engines.onnxruntime.session import session_of, session_options
from edge_prompt_runtime.engines.options import EngineOptions

PROVIDERS = ("CPUExecutionProvider",)

OPTIMISED_FILE = "model.onnx"
_PREPACKED_WEIGHTS = {
    "session.optimized_model_external_initializers_file_name": "model.onnx_data",
    "session.save_external_prepacked_constant_initializers": "1",
}


class GraphEngine:
    """An ONNX graph in an ONNX Runtime session.

    Raises:
        ManifestError: ONNX Runtime cannot load the graph.
        InputError: The precision is not f32.
    """

    def __init__(
        self,
        graph_file: Path,
        weights_file: Path | None,  # noqa: ARG002 - the graph names its weights file
        options: EngineOptions,
    ) -> None:
        for what, precision in (("", options.precision), (" of the cache", options.cache_precision)):
            if precision not in {None, "f32"}:
                raise InputError(
                    found=f"the precision{what} {precision} is not available on ONNX Runtime's CPU",
                    wanted="f32",
                    remedy="leave the precision out, use the engine openvino, or quantise the bundle to int8",
                )
        try:
            with running_on(options.cores):
                if options.model_cache is None:
                    opened = onnxruntime.InferenceSession(graph_file, session_options(options), providers=PROVIDERS)
                else:
                    opened = _cached_session(graph_file, options.model_cache, options)
            self._session = session_of(opened, options)
            self._buffers = Buffers(self._session)
        except EdgePromptError:
            raise
        except Exception as error:  # ONNX Runtime's exceptions have no common base class
            reason = " ".join(str(error).split())
            raise ManifestError(
                found=f"{graph_file}: ONNX Runtime {onnxruntime.__version__} cannot load it ({reason})",
                wanted="a graph that it can run",
                remedy="install a newer onnxruntime, or export the backbone again",
            ) from error

    def run(self, feeds: Arrays, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        """See `Engine.run`. Feeds are read without a copy."""
        return dict(zip(outputs, self._session.run(list(outputs), dict(feeds)), strict=True))

    def begin(self, held: Sequence[HeldPast]) -> BufferedRows:
        """See `Engine.begin`."""
        return BufferedRows(self._buffers, held, *self._sizes)

    @cached_property
    def _sizes(self) -> tuple[Float32, int]:
        """For causal language models: a soft prompt of length 0, and the size of the vocabulary."""
        width = next(value.shape[-1] for value in self._session.get_inputs() if value.name == "soft_prompt")
        return np.zeros((1, 0, width), np.float32), int(self._session.get_outputs()[0].shape[-1])


def _cached_session(graph_file: Path, folder: Path, options: EngineOptions) -> onnxruntime.InferenceSession:
    """Open the optimised graph in `folder`, which is created if it is missing or cannot be opened.

    Its weights are stored prepacked, so they are memory-mapped instead of copied.
    """
    made = folder / "optimised"
    if made.exists():
        try:
            return _optimised_session(made, options)
        except Exception:  # noqa: BLE001 - whatever is wrong with it, it can be rebuilt
            shutil.rmtree(made, ignore_errors=True)
    try:
        with folder_written_atomically(made) as writing:
            session = session_options(options)
            session.optimized_model_filepath = str(writing / OPTIMISED_FILE)
            for name, value in _PREPACKED_WEIGHTS.items():
                session.add_session_config_entry(name, value)
            onnxruntime.InferenceSession(graph_file, session, providers=PROVIDERS)
    except WriteError:
        if not made.exists():  # otherwise another process created it first
            raise
    return _optimised_session(made, options)


def _optimised_session(made: Path, options: EngineOptions) -> onnxruntime.InferenceSession:
    session = session_options(options)
    session.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # it is already optimised
    return onnxruntime.InferenceSession(made / OPTIMISED_FILE, session, providers=PROVIDERS)
