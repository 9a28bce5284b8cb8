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
from edge_prompt_runtime.engines.onnxruntime.session import options_of, session_of
from edge_prompt_runtime.engines.settings import EngineSettings

PROVIDERS = ("CPUExecutionProvider",)

OPTIMISED_FILE = "model.onnx"
_AS_IT_IS_MULTIPLIED = {
    "session.optimized_model_external_initializers_file_name": "model.onnx_data",
    "session.save_external_prepacked_constant_initializers": "1",
}


class GraphEngine:
    """An ONNX graph in an ONNX Runtime session.

    Raises:
        ManifestError: ONNX Runtime cannot load the graph.
        InputError: Another precision than f32.
    """

    def __init__(
        self,
        graph_file: Path,
        weights_file: Path | None,  # noqa: ARG002 - the graph names it
        settings: EngineSettings,
    ) -> None:
        for what, precision in (("", settings.precision), (" of the cache", settings.cache_precision)):
            if precision not in {None, "f32"}:
                raise InputError(
                    found=f"the precision{what} {precision} on ONNX Runtime's CPU, which computes in f32 alone",
                    wanted="f32",
                    remedy="leave the precision out, use the engine openvino, or quantise the bundle to int8",
                )
        try:
            with running_on(settings.cores):
                if settings.model_cache is None:
                    opened = onnxruntime.InferenceSession(graph_file, options_of(settings), providers=PROVIDERS)
                else:
                    opened = _cached_session(graph_file, settings.model_cache, settings)
            self._session = session_of(opened, settings)
            self._buffers = Buffers(self._session)
        except EdgePromptError:
            raise
        except Exception as error:  # its exceptions have no common class of their own
            reason = " ".join(str(error).split())
            raise ManifestError(
                found=f"{graph_file}: ONNX Runtime {onnxruntime.__version__} cannot load it ({reason})",
                wanted="a graph that it can run",
                remedy="install a newer onnxruntime or export the backbone again",
            ) from error

    def run(self, feeds: Arrays, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        """See `Engine.run`. Feeds are read where they are, without a copy."""
        return dict(zip(outputs, self._session.run(list(outputs), dict(feeds)), strict=True))

    def begin(self, held: Sequence[HeldPast]) -> BufferedRows:
        """See `Engine.begin`."""
        return BufferedRows(self._buffers, held, *self._sizes)

    @cached_property
    def _sizes(self) -> tuple[Float32, int]:
        """Of a causal language model: no virtual token at all, and how many logits there are."""
        width = next(value.shape[-1] for value in self._session.get_inputs() if value.name == "soft_prompt")
        return np.zeros((1, 0, width), np.float32), int(self._session.get_outputs()[0].shape[-1])


def _cached_session(graph_file: Path, folder: Path, settings: EngineSettings) -> onnxruntime.InferenceSession:
    """A session on the optimised graph in `folder`, which is made if it is not there or cannot be opened.

    Its weights are stored in the order in which they are multiplied, so they are mapped and not copied.
    """
    made = folder / "optimised"
    if made.exists():
        try:
            return _optimised_session(made, settings)
        except Exception:  # noqa: BLE001 - whatever is wrong with it, it can be made again
            shutil.rmtree(made, ignore_errors=True)
    try:
        with folder_written_atomically(made) as writing:
            options = options_of(settings)
            options.optimized_model_filepath = str(writing / OPTIMISED_FILE)
            for name, value in _AS_IT_IS_MULTIPLIED.items():
                options.add_session_config_entry(name, value)
            onnxruntime.InferenceSession(graph_file, options, providers=PROVIDERS)
    except WriteError:
        if not made.exists():  # or else another process was first
            raise
    return _optimised_session(made, settings)


def _optimised_session(made: Path, settings: EngineSettings) -> onnxruntime.InferenceSession:
    options = options_of(settings)
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL  # it was optimised
    return onnxruntime.InferenceSession(made / OPTIMISED_FILE, options, providers=PROVIDERS)
