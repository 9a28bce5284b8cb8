"""Worker: this project's own runtime, between two prompts."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.peers.workers.protocol import THREADS, Answer, serve
from benchmarks.peers.workers.switching import NAMES, Generated, switching
from edge_prompt_runtime import Runtime


def load(bundle: Path, engine: str, prompt: Path) -> Answer:
    """Open the bundle and load both prompts."""
    runtime = Runtime(bundle, engine=engine, threads=THREADS, spinning=True if engine == "onnxruntime" else None)
    first, second = NAMES
    runtime.load(first, prompt)
    with tempfile.TemporaryDirectory() as folder:
        turned = Path(folder) / "turned.npy"
        np.save(turned, -np.load(prompt))
        runtime.load(second, turned)

    def generate(adapter: str, tokens: list[int], new_tokens: int) -> Generated:
        answers = runtime.generate([tokens], [adapter], max_new_tokens=new_tokens)
        assert isinstance(answers, list)
        return Generated(list(answers[0].tokens))

    return switching(generate)


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--engine", required=True)
    parser.add_argument("--prompt", type=Path, required=True)
    asked = parser.parse_args()
    serve(lambda: load(asked.model, asked.engine, asked.prompt), ("numpy", asked.engine))


if __name__ == "__main__":
    main()
