"""OpenVINO on the CPU: one compiled network, and as many infer requests as ever ran at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import openvino
from numpy.typing import NDArray

from edge_prompt.errors import InputError, ManifestError
from edge_prompt_runtime.engines import Arrays


class GraphEngine:
    """An OpenVINO IR in a compiled model.

    Raises:
        ManifestError: OpenVINO cannot load the graph.
        InputError: The processor does not have the precision.
    """

    def __init__(self, graph_file: Path, weights_file: Path | None, threads: int | None, precision: str) -> None:
        # left alone, the plugin computes in bfloat16 where the machine can, and parity with torch is lost
        settings: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
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
        try:
            request = self._idle.pop()
        except IndexError:
            request = self._compiled.create_infer_request()
        try:
            request.infer(dict(feeds), share_inputs=True, share_outputs=True)
            return {name: request.get_tensor(name).data.copy() for name in outputs}
        finally:
            self._idle.append(request)
