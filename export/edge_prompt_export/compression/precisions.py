"""What a compressor of weights takes and gives, whatever the engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from edge_prompt_runtime.engines.base import Arrays

WEIGHTS = ("fp32", "fp16", "int8", "int4")
"""What the weights of a graph may be stored in."""


class Compressed(NamedTuple):
    """A graph with small weights.

    Attributes:
        files: The names of the files written; the first is the one to open.
        how: How, in the words of the tool; for the manifest.
    """

    files: tuple[str, ...]
    how: Mapping[str, Any]


Compress = Callable[[Sequence[Path], Path, str, Sequence[Arrays]], Compressed]
"""From graphs on the same weights, the folder to write to, one of `WEIGHTS` and the feeds to calibrate on, which may be
none, to what was written, under the names that the graphs have."""

KeepFold = Callable[[Path, Path | None, Path], tuple[str, ...]]
"""From a graph that folds, its weights file and the folder to write to, to what was written: the graph with its own
weights in full precision."""
