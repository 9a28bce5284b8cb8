"""In ONNX Runtime GenAI's environment: its model with places for a LoRA, and the LoRA as an adapter file of its own.

python -m benchmarks.peers.recipes.lora_for_onnxruntime SOURCE LORA OPTION TARGET

Its builder makes the matrices of the LoRA constants of the graph. Here they become inputs that may be left out, of rank
0 if they are, which is what `onnxruntime_genai.Adapters` fills, so the LoRA is switched on a request.
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
"""Of the adapter and of its model: their own numbers, nothing is looked up by them."""

PARTS = {".lora_A.": 1, ".lora_B.": 0}
"""The matrices of a LoRA by a part of their name, and which of their axes is the rank."""


def build(source: str, lora: str, option: str, target: Path) -> None:
    """Let the builder make the model with the LoRA in it, by one more of its options."""
    with tempfile.TemporaryDirectory() as cache:
        builder = [sys.executable, "-m", "onnxruntime_genai.models.builder"]
        what = ["-i", source, "-o", str(target), "-p", "fp32", "-e", "cpu", "-c", cache]
        subprocess.run([*builder, *what, "--extra_options", f"adapter_path={lora}", option], check=True)


def take_out(model: Any) -> dict[str, Any]:
    """Take the matrices of the LoRA out of the graph, which gets inputs of their names."""
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
    arrays = take_out(model)  # named, for the values below only point to them
    adapter.set_parameters({name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items()})
    adapter.export_adapter(str(target / ADAPTER))
    for file in (MODEL, DATA):
        (target / file).unlink()
    onnx.save(model, target / MODEL, save_as_external_data=True, location=DATA)


if __name__ == "__main__":
    main()
