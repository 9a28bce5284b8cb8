"""ONNX Runtime on the CPU: one session, shared by all threads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from edge_prompt.cache import past_names, present_names
from edge_prompt.errors import InputError, ManifestError
from edge_prompt_runtime.engines import Arrays


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

    def hold(self, past: Sequence[NDArray[np.float32]]) -> dict[str, Any]:
        """See `Engine.hold`."""
        return _values(dict(zip(past_names(len(past) // 2), past, strict=True)))

    def begin(self, held: Mapping[str, Any]) -> _CachedRun:
        """See `Engine.begin`. What is held is read where it is, without a copy."""
        return _CachedRun(self._session, held)


class _CachedRun:
    """See `CachedRun`: what one step hands out as present is handed to the next as past, without a copy."""

    def __init__(self, session: onnxruntime.InferenceSession, held: Mapping[str, Any]) -> None:
        self._session = session
        self._past = held

    def run(self, feeds: Arrays, rows: NDArray[np.int32]) -> NDArray[np.float32]:
        """See `CachedRun.run`."""
        batch: int = next(iter(self._past.values())).shape()[0]
        if len(rows) != batch or (rows != np.arange(batch)).any():
            self._past = _values({name: value.numpy()[rows] for name, value in self._past.items()})
        outputs = ["logits", *present_names(len(self._past) // 2)]
        logits, *present = self._session.run_with_ort_values(outputs, {**_values(feeds), **self._past})
        self._past = dict(zip(self._past, present, strict=True))
        found: NDArray[np.float32] = logits.numpy()
        return found

    def cache(self) -> tuple[NDArray[np.float32], ...]:
        """See `CachedRun.cache`."""
        return tuple(value.numpy() for value in self._past.values())

    def close(self) -> None:
        """See `CachedRun.close`."""
        self._past = {}


def _values(arrays: Arrays) -> dict[str, Any]:
    """Arrays as ONNX Runtime holds them, on the same memory."""
    return {name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items()}
