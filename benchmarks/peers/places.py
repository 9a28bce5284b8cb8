"""The locations of peers, models and logs, all in one folder that git ignores."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
CACHE = ROOT / ".cache"
PEERS = CACHE / "peers"
MODELS = PEERS / "models"
LOGS = PEERS / "logs"
REQUIREMENTS = Path(__file__).resolve().parent / "requirements"

NETWORK = MODELS / "smollm2"
"""The network and its tokenizer as written by transformers, from which all peers are made."""

MINILM = CACHE / "minilm"
"""The folder of all-MiniLM-L6-v2, filled by `examples.real_data.minilm`."""

LORA = MODELS / "lora"
PROMPT = MODELS / "prompt" / "prompt.npy"

VIRTUAL_TOKENS = 100
"""The length of the soft prompt."""


def environment(peer: str) -> Path:
    """Return the folder of a peer's environment."""
    return PEERS / peer


def python_of(peer: str) -> Path:
    """Return the interpreter of a peer's environment."""
    return environment(peer) / "bin" / "python"
