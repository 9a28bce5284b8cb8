"""Requests: what a caller asks about, read into arrays. One file a modality, imported when a bundle is of it."""

from __future__ import annotations

import importlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_prompt.formats.bundle import Bundle
from edge_prompt.formats.preprocessing import modality_of
from edge_prompt_runtime.tasks.task import Task

Offsets = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Request:
    """A batch of rows, read.

    Attributes:
        arrays: The graph's inputs by name, `[batch, …]` each; for images of different sizes a list, `[…]` a row.
        rows: How many rows there are.
        offsets: For texts: where each token of each row starts and ends in the text, in characters.
        sizes: For images: the `(height, width)` of each row as it came, in pixels.
    """

    arrays: Mapping[str, NDArray[Any] | list[NDArray[Any]]]
    rows: int
    offsets: tuple[Offsets, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()

    def shape_of(self, row: int) -> Hashable:
        """What rows must share to run in one batch."""
        return tuple(array[row].shape for array in self.arrays.values() if isinstance(array, list))

    def of_rows(self, rows: Sequence[int]) -> dict[str, NDArray[Any]]:
        """The graph's inputs for some rows, which share a shape."""
        if len(rows) == self.rows:
            return {name: np.stack(a) if isinstance(a, list) else a for name, a in self.arrays.items()}
        return {
            name: np.stack([array[row] for row in rows]) if isinstance(array, list) else array[list(rows)]
            for name, array in self.arrays.items()
        }


class Requests(Protocol):
    """Reads the requests of one modality. Any number of threads may use one.

    Attributes:
        masked: Whether the graph masks, so that rows under prompts of different lengths run in one batch.
    """

    masked: bool

    def __init__(self, bundle: Bundle) -> None:
        """Read the requests of `bundle`."""

    def items(self, inputs: Any) -> tuple[list[Any], bool]:
        """What a caller asks about, as a list, and whether it was one thing by itself."""

    def encode(self, items: Sequence[Any], tasks: Sequence[Task]) -> Request:
        """Read `items`, each under its task."""

    def take(self, arrays: Mapping[str, NDArray[Any]]) -> Request:
        """Check arrays that a caller made itself."""

    def require_room(self, request: Request, tasks: Sequence[Task]) -> None:
        """Refuse rows that do not fit beside the prompt of their task."""


MODULES = {
    "text": "edge_prompt_runtime.inputs.text.requests",
    "language": "edge_prompt_runtime.inputs.chat.requests",
    "image": "edge_prompt_runtime.inputs.image.requests",
    "arrays": "edge_prompt_runtime.inputs.arrays",
}
"""The module of each modality; its class is `Reader`."""


def open_requests(bundle: Bundle) -> Requests:
    """What reads the requests of `bundle`."""
    reader: Requests = importlib.import_module(MODULES[modality_of(bundle.manifest.preprocessing)]).Reader(bundle)
    return reader
