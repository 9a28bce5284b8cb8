"""Worker: OpenVINO GenAI's own pipeline, with the plugin's attention (SDPA) or paged attention (PA)."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import openvino as ov
import openvino_genai as genai

from benchmarks.peers.workers.protocol import THREADS, Answer, Take, serve, timed

FULL_PRECISION = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
"""Settings for weights in fp32; for others the plugin chooses what it documents as fastest on the processor."""


class Streamer(genai.StreamerBase):  # type: ignore[misc]
    """Passes tokens on as they arrive, without decoding them."""

    def __init__(self, take: Take) -> None:
        super().__init__()
        self._take = take

    def write(self, token: Any) -> Any:
        """Take a token, or several at once."""
        for one in token if isinstance(token, list) else [token]:
            self._take(int(one))
        return genai.StreamingStatus.RUNNING

    def end(self) -> None:
        """Do nothing: no token is buffered."""


def greedy(new_tokens: int) -> Any:
    """Return the settings for that many tokens, whichever they are."""
    config = genai.GenerationConfig()
    config.do_sample = False
    config.max_new_tokens = new_tokens
    config.ignore_eos = True
    return config


def inputs_of(tokens: list[int]) -> Any:
    """Return a request of token ids."""
    ids = np.array([tokens], np.int64)
    return genai.TokenizedInputs(ov.Tensor(ids), ov.Tensor(np.ones_like(ids)))


def settings_of(attention: str, *, full_precision: bool) -> dict[str, Any]:
    """Return the pipeline's settings, with keys and values cached in fp32 if `full_precision`."""
    return {
        "ATTENTION_BACKEND": attention,
        "INFERENCE_NUM_THREADS": THREADS,
        "PERFORMANCE_HINT": "LATENCY",
        **(FULL_PRECISION if full_precision else {}),
    }


def load(model: Path, attention: str, lora: Path | None, *, full_precision: bool) -> Answer:
    """Open the pipeline."""
    settings = settings_of(attention, full_precision=full_precision)
    if lora is not None:
        settings["adapters"] = genai.AdapterConfig(genai.Adapter(str(lora / "adapter_model.safetensors")))
    pipeline = genai.LLMPipeline(str(model), "CPU", **settings)

    def generate(tokens: list[int], new_tokens: int, take: Take) -> None:
        pipeline.generate(inputs_of(tokens), greedy(new_tokens), Streamer(take))

    return timed(generate)


class Load(Protocol):
    """A function that opens a pipeline."""

    def __call__(self, model: Path, attention: str, lora: Path | None, *, full_precision: bool) -> Answer:
        """Open the network with its attention and a LoRA."""


def serve_from(loading: Load) -> None:
    """Serve the pipeline that `loading` opens from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--attention", choices=("SDPA", "PA"), required=True)
    parser.add_argument("--full-precision", action="store_true")
    parser.add_argument("--lora", type=Path)
    asked = parser.parse_args()
    serve(
        lambda: loading(asked.model, asked.attention, asked.lora, full_precision=asked.full_precision),
        ("numpy", "openvino", "openvino-genai"),
    )


if __name__ == "__main__":
    serve_from(load)
