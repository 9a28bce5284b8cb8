"""The model cache: engines store their optimised forms of graphs in it, so that these open faster the next time.

An optimised form belongs to one graph, one version of one engine and one processor; forms made for others are deleted.
It is trusted like the program itself: keep it in a folder that only you can write to.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path

from edge_prompt.base.errors import ManifestError
from edge_prompt.formats.manifest import Graph
from edge_prompt.storage.files import read_json, write_json

MADE_FOR_NAME = "made_for.json"

_PROCESSOR = Path("/proc/cpuinfo")
_DISTINGUISHING = ("model name", "flags", "Features", "CPU part")
"""Fields of that file that tell processors apart, on x86 and on ARM."""


def folder_of(model_cache: Path, graph: Graph) -> Path:
    """Return the folder for `graph` in `model_cache`, emptied if it was made for another engine or machine.

    Args:
        model_cache: The folder for all graphs; created if it does not exist.
        graph: The graph.

    Raises:
        WriteError: The folder cannot be written.
    """
    from importlib.metadata import version  # noqa: PLC0415 - slow to import, and only a model cache needs it

    content = "\n".join(f"{sha256}  {name}" for name, sha256 in sorted(graph.sha256.items()))
    folder = model_cache / f"{graph.engine}-{hashlib.sha256(content.encode()).hexdigest()[:32]}"
    made_for = {"engine": f"{graph.engine} {version(graph.engine)}", "machine": machine()}
    if _read(folder / MADE_FOR_NAME) != made_for:
        shutil.rmtree(folder, ignore_errors=True)
        write_json(folder / MADE_FOR_NAME, made_for)
    return folder


def machine() -> str:
    """Return an identifier of this machine's processor."""
    described = platform.processor()
    if _PROCESSOR.exists():
        lines = _PROCESSOR.read_text(encoding="utf-8", errors="replace").splitlines()
        described = "\n".join(sorted({line for line in lines if line.startswith(_DISTINGUISHING)}))
    return f"{platform.system()} {platform.machine()} {hashlib.sha256(described.encode()).hexdigest()[:32]}"


def _read(path: Path) -> Mapping[str, object] | None:
    """The engine and machine that a folder was made for; None if they are not recorded."""
    try:
        return read_json(path, ManifestError) if path.exists() else None
    except ManifestError:
        return None
