"""Worker: ONNX Runtime GenAI's own step loop."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import onnxruntime_genai as genai

from benchmarks.peers.workers.protocol import THREADS, Answer, Take, serve, timed

END = 4
"""The token that ends a text. One is required, so it is `<reponame>`, which is an error if SmolLM2 generates it."""


def load(model_folder: Path, adapter: Path | None) -> Answer:
    """Open the model and, if asked for, an adapter of it."""
    config = genai.Config(str(model_folder))
    session = {"intra_op_num_threads": THREADS}
    config.overlay(json.dumps({"model": {"eos_token_id": END, "decoder": {"session_options": session}}}))
    model = genai.Model(config)
    adapters = None
    if adapter is not None:
        adapters = genai.Adapters(model)
        adapters.load(str(adapter), "lora")

    def generate(tokens: list[int], new_tokens: int, take: Take) -> None:
        params = genai.GeneratorParams(model)
        params.set_search_options(do_sample=False, max_length=len(tokens) + new_tokens)
        generator = genai.Generator(model, params)
        if adapters is not None:
            generator.set_active_adapter(adapters, "lora")
        generator.append_tokens(tokens)
        while not generator.is_done():
            generator.generate_next_token()
            take(int(generator.get_next_tokens()[0]))

    return timed(generate)


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--adapter", type=Path)
    asked = parser.parse_args()
    serve(lambda: load(asked.model, asked.adapter), ("numpy", "onnxruntime", "onnxruntime-genai"))


if __name__ == "__main__":
    main()
