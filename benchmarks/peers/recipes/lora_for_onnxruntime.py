"""In ONNX Runtime GenAI's environment: write its model with inputs for a LoRA, and the LoRA as an adapter file.

    python -m benchmarks.peers.recipes.lora_for_onnxruntime SOURCE LORA OPTION TARGET

Its builder turns the matrices of the LoRA into constants of the graph. Here they become optional inputs, of rank 0 if
left out, which `onnxruntime_genai.Adapters` fills, so that each request can use the LoRA or not.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

MODEL, DATA, ADAPTER = "model.onnx", "model.onnx.data", "lora.onnx_adapter"
FORMAT_VERSIONS = (1, 1)
"""Versions of the adapter and of its model; nothing depends on them."""

PARTS = {".lora_A.": 1, ".lora_B.": 0}
"""The matrices of a LoRA by a part of their name, with the axis of the rank."""


def build(source: str, lora: str, option: str, target: Path) -> None:
    """Run the builder on the model with the LoRA, with one more of its options."""
    with tempfile.TemporaryDirectory() as cache:
        builder = [sys.executable, "-m", "onnxruntime_genai.models.builder"]
        what = ["-i", source, "-o", str(target), "-p", "fp32", "-e", "cpu", "-c", cache]
        subprocess.run([*builder, *what, "--extra_options", f"adapter_path={lora}", option], check=True)


def take_out(model: Any) -> dict[str, Any]:
    """Replace the matrices of the LoRA in the graph by inputs of the same names."""
    found: dict[str, Any] = {}
    for constant in model.graph.initializer:
        axis = next((axis for part, axis in PARTS.items() if part in constant.name), None)
        if axis is None:
            continue
        array = numpy_helper.to_array(constant)
        found[constant.name] = array.copy()
        empty = np.zeros([0 if index == axis else size for index, size in enumerate(array.shape)], array.dtype)
        constant.CopyFrom(numpy_helper.from_array(empty, constant.name))
        shape = ["lora_rank" if index == axis else size for index, size in enumerate(array.shape)]
        model.graph.input.append(onnx.helper.make_tensor_value_info(constant.name, onnx.TensorProto.FLOAT, shape))
    return found


def main() -> None:
    """Write the model and the adapter."""
    source, lora, option, name = sys.argv[1:]
    target = Path(name)
    build(source, lora, option, target)
    model = onnx.load(target / MODEL)
    adapter = onnxruntime.AdapterFormat()
    adapter.set_adapter_version(FORMAT_VERSIONS[0])
    adapter.set_model_version(FORMAT_VERSIONS[1])
    arrays = take_out(model)  # kept in a variable, since the values below only point to them
    adapter.set_parameters({name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items()})
    adapter.export_adapter(str(target / ADAPTER))
    for file in (MODEL, DATA):
        (target / file).unlink()
    onnx.save(model, target / MODEL, save_as_external_data=True, location=DATA)


if __name__ == "__main__":
    main()
