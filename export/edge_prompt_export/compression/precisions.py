"""The interface of weight compression, common to all engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from edge_prompt_runtime.engines.base import Arrays

WEIGHTS = ("fp32", "fp16", "int8", "int4")
"""The storage formats of a graph's weights."""


class Compressed(NamedTuple):
    """A graph with compressed weights.

    Attributes:
        files: The names of the files written; the first is the one to open.
        how: The tool and its settings, for the manifest.
    """

    files: tuple[str, ...]
    how: Mapping[str, Any]


Compress = Callable[[Sequence[Path], Path, str, Sequence[Arrays]], Compressed]
"""Compresses graphs that share weights. Takes the graphs, the folder to write to, one of `WEIGHTS`, and the feeds to
calibrate on (may be empty); writes the graphs under their own names."""

KeepFold = Callable[[Path, Path | None, Path], tuple[str, ...]]
"""Copies a folding graph with its own weights in full precision. Takes the graph, its weights file, and the folder to
write to; returns the names of the files written."""
