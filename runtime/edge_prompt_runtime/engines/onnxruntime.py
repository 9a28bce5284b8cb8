"""ONNX Runtime on the CPU: one session, shared by all threads."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_prompt.errors import InputError, ManifestError
from edge_prompt_runtime.engines import Arrays, Float32, Past
from edge_prompt_runtime.engines.onnxruntime_cache import SharedBuffers, hold


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
        threads: int | None,
        precision: str,
    ) -> None:
        if precision != "f32":
            raise InputError(
                found=f"the precision {precision} on ONNX Runtime's CPU, which computes in f32 alone",
                wanted="f32",
                remedy="leave the precision out, use the engine openvino, or quantise the bundle to int8",
            )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = onnxruntime.InferenceSession(graph_file, options, providers=["CPUExecutionProvider"])
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

    def hold(self, past: Past) -> Sequence[Any]:
        """See `Engine.hold`."""
        return hold(past)

    def begin(self, held: Sequence[Sequence[Any]]) -> SharedBuffers:
        """See `Engine.begin`. What is held is read where it is, without a copy."""
        return SharedBuffers(self._session, held, *self._sizes)

    @cached_property
    def _sizes(self) -> tuple[Float32, int]:
        """Of a causal language model: no virtual token at all, and how many logits there are."""
        width = next(value.shape[-1] for value in self._session.get_inputs() if value.name == "soft_prompt")
        return np.zeros((1, 0, width), np.float32), int(self._session.get_outputs()[0].shape[-1])
