from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest

from edge_prompt_runtime import Runtime
from edge_prompt_runtime.engines.openvino.properties import RUNTIME_CACHE, compile_model, properties_of
from edge_prompt_runtime.engines.options import EngineOptions


def test_a_request_that_failed_is_not_used_again(tiny_bundle: Path) -> None:
    runtime = Runtime(tiny_bundle, "openvino", threads=1)
    wanted = runtime.embed("w1 w2 w3")
    engine: Any = runtime.network.engine
    assert len(engine._idle) == 1
    with pytest.raises(RuntimeError):
        engine.run({"soft_prompt": np.zeros((1, 3, 7), np.float32)}, ("features",))
    assert not engine._idle
    assert (runtime.embed("w1 w2 w3") == wanted).all()


class WithoutTheProperty:
    """A future OpenVINO without the undocumented property."""

    def __init__(self) -> None:
        self.core = openvino.Core()

    def compile_model(self, model: openvino.Model, device: str, properties: dict[str, Any]) -> openvino.CompiledModel:
        if RUNTIME_CACHE in properties:
            message = f"Unsupported property {RUNTIME_CACHE}"
            raise RuntimeError(message)
        return self.core.compile_model(model, device, properties)


def test_an_openvino_without_the_bound_of_kernels_serves_too(tiny_bundle: Path) -> None:
    core: Any = WithoutTheProperty()
    model = core.core.read_model(tiny_bundle / "openvino_model.xml")
    assert compile_model(core, model, properties_of(EngineOptions(1))).get_property("INFERENCE_NUM_THREADS") == 1
