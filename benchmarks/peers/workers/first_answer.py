"""Worker: imports a library, or imports it and answers one request; prints the measurements and ends.

    python -P first_answer.py LIBRARY
    python -P first_answer.py LIBRARY FOLDER

It is run by its path, with no other file of this project on the import path, so that every library is the installed
one.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

TEXT = "oil prices rose after opec cut its output"
IDS = [101, 3514, 7597, 3123, 2044, 6728, 8586, 3013, 2049, 6434, 102]
"""The tokens of `TEXT`, for engines alone, which do not read texts."""

IMPORTS = {
    "onnxruntime": "import onnxruntime",
    "openvino": "import openvino",
    "edge_prompt": "from edge_prompt_runtime import Runtime",
    "edge_prompt_onnxruntime": "import onnxruntime; from edge_prompt_runtime import Runtime",
    "edge_prompt_openvino": "import openvino; from edge_prompt_runtime import Runtime",
    "peft": "from peft import LoraConfig, get_peft_model; from transformers import AutoModel, AutoTokenizer",
    "optimum_onnx": (
        "from optimum.onnxruntime import ORTModelForFeatureExtraction; from transformers import AutoTokenizer"
    ),
    "optimum_intel": "from optimum.intel import OVModelForFeatureExtraction; from transformers import AutoTokenizer",
}
"""The imports of each library that a request needs."""


def onnxruntime(folder: Path, threads: int) -> Any:
    """Run the engine alone: a graph and token ids, without tokenizer and prompt."""
    import numpy as np
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(folder / "model.onnx", settings)
    return session.run(["features"], _alone(np))[0]


def openvino(folder: Path, threads: int) -> Any:
    """Run the engine alone."""
    import numpy as np
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    model = openvino.compile_model(folder / "openvino_model.xml", "CPU", settings)
    known = {name for one in model.inputs for name in one.names}
    return model({name: value for name, value in _alone(np).items() if name in known})["features"]


def edge_prompt(engine: str) -> Callable[[Path, int], Any]:
    """Run the device side, from a text."""

    def embed(folder: Path, threads: int) -> Any:
        from edge_prompt_runtime import Runtime

        return Runtime(folder, engine, threads).embed([TEXT])

    return embed


def peft(folder: Path, threads: int) -> Any:
    """Run a LoRA without effect in torch, from a text."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel, AutoTokenizer

    torch.set_num_threads(threads)
    network = get_peft_model(AutoModel.from_pretrained(folder), LoraConfig(r=8, target_modules=["query", "value"]))
    rows = AutoTokenizer.from_pretrained(folder)([TEXT], return_tensors="pt")
    with torch.inference_mode():
        return network.eval()(**rows).last_hidden_state.mean(1).numpy()


def optimum_onnx(folder: Path, threads: int) -> Any:
    """Run Optimum on ONNX Runtime, from a text."""
    import onnxruntime
    from optimum.onnxruntime import ORTModelForFeatureExtraction
    from transformers import AutoTokenizer

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    network = ORTModelForFeatureExtraction.from_pretrained(folder, session_options=settings)
    rows = AutoTokenizer.from_pretrained(folder)([TEXT], return_tensors="np")
    return network(**rows).last_hidden_state.mean(1)


def optimum_intel(folder: Path, threads: int) -> Any:
    """Run Optimum on OpenVINO, from a text."""
    from optimum.intel import OVModelForFeatureExtraction
    from transformers import AutoTokenizer

    settings = {"INFERENCE_NUM_THREADS": str(threads), "INFERENCE_PRECISION_HINT": "f32"}
    network = OVModelForFeatureExtraction.from_pretrained(folder, ov_config=settings)
    rows = AutoTokenizer.from_pretrained(folder)([TEXT], return_tensors="pt")
    return network(**rows).last_hidden_state.mean(1).numpy()


ANSWERS: dict[str, Callable[[Path, int], Any]] = {
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "edge_prompt_onnxruntime": edge_prompt("onnxruntime"),
    "edge_prompt_openvino": edge_prompt("openvino"),
    "peft": peft,
    "optimum_onnx": optimum_onnx,
    "optimum_intel": optimum_intel,
}


def _alone(np: Any) -> dict[str, Any]:
    """Return the inputs of our graph for MiniLM, without a prompt."""
    ids = np.array([IDS])
    return {
        "input_ids": ids,
        "attention_mask": np.ones_like(ids),
        "token_type_ids": np.zeros_like(ids),
        "soft_prompt": np.zeros((1, 0, 384), np.float32),
        "prefix": np.zeros((6, 2, 1, 12, 0, 32), np.float32),
    }


def _peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def main() -> None:
    """Import, answer, and print a line of JSON."""
    library, *folder = sys.argv[1:]
    before = set(sys.modules)
    said: dict[str, Any]
    start = perf_counter()
    if folder:
        vector = ANSWERS[library](Path(folder[0]), int(os.environ["OMP_NUM_THREADS"]))
        said = {"answer_ms": 1000 * (perf_counter() - start), "peak_bytes": _peak_bytes()}
        said["vector"] = [float(number) for number in vector.reshape(-1)]
    else:
        exec(IMPORTS[library])  # noqa: S102 - one of the lines above
        said = {"import_ms": 1000 * (perf_counter() - start), "modules": len(set(sys.modules) - before)}
    print("\n" + json.dumps(said))


if __name__ == "__main__":
    main()
