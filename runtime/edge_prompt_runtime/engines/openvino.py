"""OpenVINO on the CPU: one compiled network, and as many infer requests as ever ran at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from edge_prompt.cache import STATEFUL_INPUT, past_names
from edge_prompt.errors import InputError, ManifestError
from edge_prompt_runtime.engines import Arrays


class GraphEngine:
    """An OpenVINO IR in a compiled model.

    Raises:
        ManifestError: OpenVINO cannot load the graph.
        InputError: The processor does not have the precision.
    """

    def __init__(self, graph_file: Path, weights_file: Path | None, threads: int | None, precision: str) -> None:
        # left alone, the plugin computes in bfloat16 where the machine can and keeps a cache in 8 bits, and parity with
        # torch is lost
        settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": precision,
            "KV_CACHE_PRECISION": precision,
        }
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        core = openvino.Core()
        if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise InputError(
                found="the precision bf16 on a processor without it",
                wanted="a processor with AVX512-BF16 or AMX",
                remedy="leave the precision out, or quantise the bundle to int8",
            )
        try:
            model = graph_file if weights_file is None else core.read_model(graph_file, weights_file)
            self._compiled = core.compile_model(model, "CPU", settings)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise ManifestError(
                found=f"{graph_file}: OpenVINO {openvino.__version__} cannot load it ({reason})",
                wanted="a graph that it can run",
                remedy="install a newer openvino or export the backbone again",
            ) from error
        self._idle: deque[openvino.InferRequest] = deque()  # append and pop are atomic

    def run(self, feeds: Arrays, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        """See `Engine.run`. Feeds are read where they are; outputs are copied, a request reuses its own."""
        request = self._request()
        try:
            request.infer(dict(feeds), share_inputs=True, share_outputs=True)
            return {name: request.get_tensor(name).data.copy() for name in outputs}
        finally:
            self._idle.append(request)

    def begin(self, past: Sequence[NDArray[np.float32]]) -> _CachedRun:
        """See `Engine.begin`. The past is copied into the states of a request."""
        return _CachedRun(self._request(), past, self._idle)

    def _request(self) -> openvino.InferRequest:
        """A request that nobody uses; whoever takes it appends it to the idle ones again."""
        try:
            return self._idle.pop()
        except IndexError:
            return self._compiled.create_infer_request()


class _CachedRun:
    """See `CachedRun`: the cache is the state of an infer request, which is this run's own until it is closed."""

    def __init__(
        self, request: openvino.InferRequest, past: Sequence[NDArray[np.float32]], idle: deque[openvino.InferRequest]
    ) -> None:
        self._request = request
        self._idle = idle
        self._names = past_names(len(past) // 2)
        states = self._states()
        for name, array in zip(self._names, past, strict=True):
            states[name].state = openvino.Tensor(array)

    def run(self, feeds: Arrays, rows: NDArray[np.int32]) -> NDArray[np.float32]:
        """See `CachedRun.run`."""
        self._request.infer({**feeds, STATEFUL_INPUT: rows}, share_inputs=True, share_outputs=True)
        logits: NDArray[np.float32] = self._request.get_tensor("logits").data.copy()
        return logits

    def cache(self) -> tuple[NDArray[np.float32], ...]:
        """See `CachedRun.cache`."""
        states = self._states()
        return tuple(states[name].state.data.copy() for name in self._names)

    def close(self) -> None:
        """See `CachedRun.close`. Other threads may use the request from now on, so it is given back once."""
        request, self._request = self._request, None
        if request is not None:
            self._idle.append(request)

    def _states(self) -> dict[str, Any]:
        """The states by the name of the past; OpenVINO calls each by that and by the name of its present."""
        return {state.name[: state.name.index("present")]: state for state in self._request.query_state()}
