"""Bundles that benchmarks share, exported once in a process of its own, so that no benchmark measures the export."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from examples.real_data import CACHE, minilm


def minilm_bundle() -> Path:
    """Return the bundle of all-MiniLM-L6-v2 for both engines."""
    bundle = CACHE / "minilm-bundle"
    if not bundle.exists():
        subprocess.run([sys.executable, "-m", "edge_prompt", "export", str(minilm()), str(bundle)], check=True)
    return bundle
