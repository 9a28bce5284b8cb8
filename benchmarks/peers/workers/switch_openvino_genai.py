"""Worker: OpenVINO GenAI, between two LoRAs that its pipeline was opened with."""

from __future__ import annotations

import tempfile
from pathlib import Path

import openvino_genai as genai

from benchmarks.peers.workers.openvino_genai import Streamer, greedy, inputs_of, serve_from, settings_of
from benchmarks.peers.workers.protocol import Answer
from benchmarks.peers.workers.switching import NAMES, Generated, switching, turned_adapter


def load(model: Path, attention: str, lora: Path | None, *, full_precision: bool) -> Answer:
    """Open the pipeline with both adapters; each request names one by an `AdapterConfig` that is created once."""
    assert lora is not None
    first = lora / "adapter_model.safetensors"
    with tempfile.TemporaryDirectory() as folder:
        second = turned_adapter(first, Path(folder) / "turned.safetensors")
        adapters = {name: genai.Adapter(str(path)) for name, path in zip(NAMES, (first, second), strict=True)}
        known = genai.AdapterConfig(list(adapters.values()))
        settings = settings_of(attention, full_precision=full_precision)
        pipeline = genai.LLMPipeline(str(model), "CPU", adapters=known, **settings)
    chosen = {name: genai.AdapterConfig(adapter) for name, adapter in adapters.items()}

    def generate(adapter: str, tokens: list[int], new_tokens: int) -> Generated:
        config = greedy(new_tokens)
        config.adapters = chosen[adapter]
        found: list[int] = []
        pipeline.generate(inputs_of(tokens), config, Streamer(found.append))
        return Generated(found)

    return switching(generate)


if __name__ == "__main__":
    serve_from(load)
