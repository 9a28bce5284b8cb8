"""OpenVINO on the CPU: one compiled network, and as many infer requests as ever ran at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import openvino
from numpy.typing import NDArray

from edge_prompt.cache import PRESENT, STATEFUL_INPUT, past_names
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
        self._idle_stateful: deque[_Stateful] = deque()

    def run(self, feeds: Arrays, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        """See `Engine.run`. Feeds are read where they are; outputs are copied, a request reuses its own."""
        request = self._request()
        try:
            request.infer(dict(feeds), share_inputs=True, share_outputs=True)
            return {name: request.get_tensor(name).data.copy() for name in outputs}
        finally:
            self._idle.append(request)

    def hold(self, past: Sequence[NDArray[np.float32]]) -> _Held:
        """See `Engine.hold`. OpenVINO shares the memory of arrays that may be written only; others are copied."""
        return _Held([openvino.Tensor(part, shared_memory=part.flags.writeable) for part in past], past)

    def begin(self, held: _Held) -> _CachedRun:
        """See `Engine.begin`. What is held is copied into the states of a request."""
        return _CachedRun(self._stateful(len(held.tensors)), held, self._idle_stateful)

    def _request(self) -> openvino.InferRequest:
        """A request that nobody uses; whoever takes it appends it to the idle ones again."""
        try:
            return self._idle.pop()
        except IndexError:
            return self._compiled.create_infer_request()

    def _stateful(self, parts: int) -> _Stateful:
        """The same with its states, which take a while to look up."""
        try:
            return self._idle_stateful.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
            # OpenVINO calls each state by the name of the past and that of its present
            states = {state.name[: state.name.index(PRESENT)]: state for state in request.query_state()}
            return _Stateful(request, [states[name] for name in past_names(parts // 2)])


class _Held(NamedTuple):
    """Tensors on the memory of arrays, which live as long as they do."""

    tensors: list[openvino.Tensor]
    arrays: Sequence[NDArray[np.float32]]


class _Stateful(NamedTuple):
    """An infer request and its states: keys, then values, a layer."""

    request: openvino.InferRequest
    states: list[Any]


class _CachedRun:
    """See `CachedRun`: the cache is the state of an infer request, which is this run's own until it is closed."""

    def __init__(self, stateful: _Stateful, held: _Held, idle: deque[_Stateful]) -> None:
        self._stateful: _Stateful | None = stateful
        self._idle = idle
        for state, tensor in zip(stateful.states, held.tensors, strict=True):
            state.state = tensor

    def run(self, feeds: Arrays, rows: NDArray[np.int32]) -> NDArray[np.float32]:
        """See `CachedRun.run`."""
        request = self._open().request
        request.infer({**feeds, STATEFUL_INPUT: rows}, share_inputs=True, share_outputs=True)
        logits: NDArray[np.float32] = request.get_tensor("logits").data.copy()
        return logits

    def cache(self) -> tuple[NDArray[np.float32], ...]:
        """See `CachedRun.cache`."""
        return tuple(state.state.data.copy() for state in self._open().states)

    def close(self) -> None:
        """See `CachedRun.close`. Other threads may use the request from now on, so it is given back once."""
        stateful, self._stateful = self._stateful, None
        if stateful is not None:
            self._idle.append(stateful)

    def _open(self) -> _Stateful:
        if self._stateful is None:
            raise RuntimeError("this run was closed")
        return self._stateful
