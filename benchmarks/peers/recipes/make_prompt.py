"""In this environment: write a soft prompt of the embeddings of random tokens, as tuning starts from them.

python -m benchmarks.peers.recipes.make_prompt SOURCE TARGET
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from benchmarks.peers.places import PROMPT, VIRTUAL_TOKENS

EMBEDDINGS = "model.embed_tokens.weight"


def main() -> None:
    """Write the bare array; without a card its kind follows from its shape, on any bundle of these weights."""
    source, target = map(Path, sys.argv[1:])
    embeddings = load_file(source / "model.safetensors")[EMBEDDINGS]
    tokens = np.random.default_rng(1).integers(100, 40_000, VIRTUAL_TOKENS)
    np.save(target / PROMPT.name, embeddings[tokens])


if __name__ == "__main__":
    main()
