"""Bundles that benchmarks share, exported once, by a process of its own: what an export takes is none of theirs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from examples.real_data import CACHE, minilm


def minilm_bundle() -> Path:
    """all-MiniLM-L6-v2 for both engines."""
    bundle = CACHE / "minilm-bundle"
    if not bundle.exists():
        subprocess.run([sys.executable, "-m", "edge_prompt", "export", str(minilm()), str(bundle)], check=True)
    return bundle
