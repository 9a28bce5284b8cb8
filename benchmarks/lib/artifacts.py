"""Exports that a benchmark keeps in .cache/bench-models as long as everything that determines them is unchanged."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import edge_prompt_export
from edge_prompt.storage.files import folder_written_atomically
from examples.real_data import CACHE

KEPT = CACHE / "bench-models"
EXPORTERS = ("torch", "transformers", "onnxscript", "onnx-ir", "onnxruntime", "openvino", "nncf")
"""Packages whose version determines a graph."""


def digest_of(*parts: object) -> str:
    """Return a digest of everything that determines an export.

    That is the text of the export package, the versions of the exporters, and `parts`: paths by the content of the
    file, bytes as they are, anything else by its `repr`.
    """
    digest = hashlib.sha256()
    for path in sorted(Path(edge_prompt_export.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    digest.update(repr([version(name) for name in EXPORTERS]).encode())
    for part in parts:
        digest.update(part.read_bytes() if isinstance(part, Path) else _as_bytes(part))
    return digest.hexdigest()


def kept(name: str, digest: str, make: Callable[[Path], object], place: Path = KEPT) -> Path:
    """Return the folder `name` of that digest, filled by `make` if it is missing; one of another digest is removed."""
    wanted = place / f"{name}-{digest[:16]}"
    for older in place.glob(f"{name}-{'?' * 16}"):
        if older != wanted:
            shutil.rmtree(older)
    if not wanted.exists():
        with folder_written_atomically(wanted) as folder:
            make(folder)
    return wanted


def _as_bytes(part: object) -> bytes:
    return part if isinstance(part, bytes) else repr(part).encode()
