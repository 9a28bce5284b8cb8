"""Worker: ONNX Runtime GenAI, between two LoRAs that are both loaded."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from time import perf_counter

import numpy as np
import onnxruntime
import onnxruntime_genai as genai

from benchmarks.peers.workers.onnxruntime_genai import END
from benchmarks.peers.workers.protocol import THREADS, Answer, serve
from benchmarks.peers.workers.switching import NAMES, Generated, switching


def turned(source: Path, target: Path) -> Path:
    """Write an adapter with the sign of its second matrices flipped."""
    adapter = onnxruntime.AdapterFormat.read_adapter(str(source))
    read = {name: value.numpy() for name, value in adapter.get_parameters().items()}
    # copies: the data is freed once there are other parameters, which only point to it
    arrays = {name: np.negative(array) if ".lora_B." in name else np.array(array) for name, array in read.items()}
    adapter.set_parameters({name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in arrays.items()})
    adapter.export_adapter(str(target))
    return target


def load(model_folder: Path, adapter: Path) -> Answer:
    """Open the model and load both adapters."""
    config = genai.Config(str(model_folder))
    session = {"intra_op_num_threads": THREADS}
    config.overlay(json.dumps({"model": {"eos_token_id": END, "decoder": {"session_options": session}}}))
    model = genai.Model(config)
    adapters = genai.Adapters(model)
    with tempfile.TemporaryDirectory() as folder:
        for name, path in zip(NAMES, (adapter, turned(adapter, Path(folder) / "turned.onnx_adapter")), strict=True):
            adapters.load(str(path), name)

    def generate(adapter: str, tokens: list[int], new_tokens: int) -> Generated:
        params = genai.GeneratorParams(model)
        params.set_search_options(do_sample=False, max_length=len(tokens) + new_tokens)
        generator = genai.Generator(model, params)
        start = perf_counter()
        generator.set_active_adapter(adapters, adapter)
        switch_us = 1e6 * (perf_counter() - start)
        generator.append_tokens(tokens)
        found = []
        while not generator.is_done():
            generator.generate_next_token()
            found.append(int(generator.get_next_tokens()[0]))
        return Generated(found, switch_us)

    return switching(generate)


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--adapter", type=Path, required=True)
    asked = parser.parse_args()
    serve(lambda: load(asked.model, asked.adapter), ("numpy", "onnxruntime", "onnxruntime-genai"))


if __name__ == "__main__":
    main()
