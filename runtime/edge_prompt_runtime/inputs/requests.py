"""Requests: the caller's inputs as arrays. One module per modality, imported when a bundle of it is opened."""

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
    """A batch of rows as arrays.

    Attributes:
        arrays: The graph's inputs by name, `[batch, …]` each; for images of different sizes a list, one array per row.
        rows: Number of rows.
        offsets: For texts: the start and end of each token of each row in the text, in characters.
        sizes: For images: the original `(height, width)` of each row, in pixels.
    """

    arrays: Mapping[str, NDArray[Any] | list[NDArray[Any]]]
    rows: int
    offsets: tuple[Offsets, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()

    def shape_of(self, row: int) -> Hashable:
        """Return what rows must have in common to run in one batch."""
        return tuple(array[row].shape for array in self.arrays.values() if isinstance(array, list))

    def of_rows(self, rows: Sequence[int]) -> dict[str, NDArray[Any]]:
        """Return the graph's inputs for some rows of the same shape."""
        if len(rows) == self.rows:
            return {name: np.stack(a) if isinstance(a, list) else a for name, a in self.arrays.items()}
        return {
            name: np.stack([array[row] for row in rows]) if isinstance(array, list) else array[list(rows)]
            for name, array in self.arrays.items()
        }


class Requests(Protocol):
    """Reads the requests of one modality. Thread-safe.

    Attributes:
        masked: Whether the graph takes a mask, so that rows with prompts of different lengths can run in one batch.
    """

    masked: bool

    def __init__(self, bundle: Bundle) -> None:
        """Create the reader of requests to `bundle`."""

    def items(self, inputs: Any) -> tuple[list[Any], bool]:
        """Return the caller's inputs as a list, and whether the caller passed a single item."""

    def encode(self, items: Sequence[Any], tasks: Sequence[Task]) -> Request:
        """Convert `items` to arrays, each for its task."""

    def take(self, arrays: Mapping[str, NDArray[Any]]) -> Request:
        """Check arrays that the caller prepared."""

    def require_room(self, request: Request, tasks: Sequence[Task]) -> None:
        """Check that each row fits next to the prompt of its task."""


MODULES = {
    "text": "edge_prompt_runtime.inputs.text.requests",
    "language": "edge_prompt_runtime.inputs.chat.requests",
    "image": "edge_prompt_runtime.inputs.image.requests",
    "arrays": "edge_prompt_runtime.inputs.arrays",
}
"""The module of each modality, with the class `Reader`."""


def open_requests(bundle: Bundle) -> Requests:
    """Create the reader of requests to `bundle`."""
    reader: Requests = importlib.import_module(MODULES[modality_of(bundle.manifest.preprocessing)]).Reader(bundle)
    return reader
