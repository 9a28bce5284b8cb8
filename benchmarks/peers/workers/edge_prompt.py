"""Worker: this project's own runtime."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.peers.workers.protocol import THREADS, Answer, Generate, Take, serve, timed
from edge_prompt_runtime import Runtime


def load(bundle: Path, engine: str, prompt: Path | None) -> Answer:
    """Open the bundle and, if asked for, a prompt."""
    spinning = True if engine == "onnxruntime" else None  # between steps as well, as the peers' threads do
    runtime = Runtime(bundle, engine=engine, threads=THREADS, spinning=spinning)
    task = None
    if prompt is not None:
        task = prompt.stem
        runtime.load(task, prompt)
    return timed(generate_with(runtime, task))


def generate_with(runtime: Runtime, task: str | None) -> Generate:
    """Generate in a stream, past the end of a text, so that every text has the requested length."""

    def generate(tokens: list[int], new_tokens: int, take: Take) -> None:
        for piece in runtime.generate([tokens], task, stream=True, max_new_tokens=new_tokens, ignore_eos=True):
            if piece.token is not None:
                take(piece.token)

    return generate


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--engine", required=True)
    parser.add_argument("--prompt", type=Path)
    asked = parser.parse_args()
    serve(lambda: load(asked.model, asked.engine, asked.prompt), ("numpy", asked.engine))


if __name__ == "__main__":
    main()
