"""OpenVINO on the CPU: one compiled model, and one infer request per concurrent call; the pool grows to the peak."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray

from edge_prompt.base.errors import InputError, ManifestError
from edge_prompt.formats.kv_cache_names import STATEFUL_INPUT
from edge_prompt_runtime.engines.base import Arrays, CachedRun, Float32, HeldPast
from edge_prompt_runtime.engines.cores import running_on
from edge_prompt_runtime.engines.openvino.paged_attention import PagedRows, new_slot, page
from edge_prompt_runtime.engines.openvino.properties import compile_model, properties_of, require_on_cores
from edge_prompt_runtime.engines.openvino.state import StatefulRows, new_stateful
from edge_prompt_runtime.engines.options import EngineOptions


class GraphEngine:
    """An OpenVINO IR in a compiled model.

    Raises:
        ManifestError: OpenVINO cannot load the graph.
        InputError: The processor does not support the precision, or OpenVINO does not support a setting.
    """

    def __init__(self, graph_file: Path, weights_file: Path | None, options: EngineOptions) -> None:
        with running_on(options.cores):
            self._compiled = self._open(graph_file, weights_file, options)
        require_on_cores(self._compiled, options)
        self._idle: deque[openvino.InferRequest] = deque()  # append and pop are atomic
        self._idle_cached: deque[Any] = deque()

    def _open(self, graph_file: Path, weights_file: Path | None, options: EngineOptions) -> openvino.CompiledModel:
        properties = properties_of(options)
        core = openvino.Core()
        if options.precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise InputError(
                found="this processor does not support the precision bf16",
                wanted="a processor with AVX512-BF16 or AMX",
                remedy="leave the precision out, or quantise the bundle to int8",
            )
        try:
            model = core.read_model(graph_file) if weights_file is None else core.read_model(graph_file, weights_file)
            self._rows = _rows_of(model, paged=options.cache_precision in {None, options.precision})
            if options.model_cache is not None and self._rows is None:
                # OpenVINO cannot read a cached paged model back, because it loses the head sizes (as of 2026.4)
                properties["CACHE_DIR"] = str(options.model_cache)
            return compile_model(core, model, properties)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise ManifestError(
                found=f"{graph_file}: OpenVINO {openvino.__version__} cannot load it ({reason})",
                wanted="a graph that it can run",
                remedy="install a newer openvino, or export the backbone again",
            ) from error

    def run(self, feeds: Arrays, outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        """See `Engine.run`. Feeds are read without a copy; outputs are copied, because a request reuses its memory."""
        request = self._request()
        request.infer(dict(feeds), share_inputs=True, share_outputs=True)
        found = {name: request.get_tensor(name).data.copy() for name in outputs}
        self._idle.append(request)  # a failed request never gets here, so its stale contents are not reused
        return found

    def begin(self, held: Sequence[HeldPast]) -> CachedRun:
        """See `Engine.begin`."""
        assert self._rows is not None  # noqa: S101 - only bundles of language models call this
        new, rows = self._rows
        try:
            own = self._idle_cached.pop()
        except IndexError:
            own = new(self._compiled)
        return rows(own, held, self._idle_cached, self._no_soft_prompt)

    @cached_property
    def _no_soft_prompt(self) -> Float32:
        """For causal language models: a soft prompt of length 0."""
        width = self._compiled.input("soft_prompt").get_partial_shape()[2].get_length()
        return np.zeros((1, 0, width), np.float32)

    def _request(self) -> openvino.InferRequest:
        """Take an idle request or create one; the caller returns it to the idle ones."""
        try:
            return self._idle.pop()
        except IndexError:
            return self._compiled.create_infer_request()


def _rows_of(model: openvino.Model, *, paged: bool) -> tuple[Callable[..., Any], Callable[..., CachedRun]] | None:
    """The factories of a request with a KV cache and of rows on it; None for a graph without a cache.

    If `paged` is set and the graph can be transformed, the cache is paged; otherwise it is the state of the request. A
    paged cache always has the precision of the computation.
    """
    if not any(STATEFUL_INPUT in port.names for port in model.inputs):
        return None
    return (new_slot, PagedRows) if paged and page(model) else (new_stateful, StatefulRows)
