"""Where what the benchmark needs lies: all of it below one folder that git does not see."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
CACHE = ROOT / ".cache"
PEERS = CACHE / "peers"
MODELS = PEERS / "models"
LOGS = PEERS / "logs"
REQUIREMENTS = Path(__file__).resolve().parent / "requirements"

NETWORK = MODELS / "smollm2"
"""The network and its tokenizer as transformers writes them, which every peer starts from."""

MINILM = CACHE / "minilm"
"""The folder of all-MiniLM-L6-v2, which `examples.real_data.minilm` fills."""

LORA = MODELS / "lora"
PROMPT = MODELS / "prompt" / "prompt.npy"

VIRTUAL_TOKENS = 100
"""The length of the soft prompt."""


def environment(peer: str) -> Path:
    """The folder of a peer's environment."""
    return PEERS / peer


def python_of(peer: str) -> Path:
    """The interpreter of a peer's environment."""
    return environment(peer) / "bin" / "python"
