"""Requests: the caller's inputs as arrays. One module per modality, imported when a bundle of it is opened."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_prompt.formats.bundle import Bundle
from edge_prompt.formats.preprocessing import (
    ArrayPreprocessing,
    ImagePreprocessing,
    LanguagePreprocessing,
    TextPreprocessing,
)
from edge_prompt_runtime.tasks.task import Task

Offsets = tuple[tuple[int, int], ...]

TasksOfRows = Callable[[int], Sequence[Task]]
"""Returns the task of each row, given the number of rows."""


def one_task(task: Task) -> TasksOfRows:
    """Return a function that gives all rows the same task."""
    return lambda rows: [task] * rows


@dataclass(frozen=True)
class Request:
    """A batch of rows as arrays, and the task of each row.

    Attributes:
        arrays: The graph's inputs by name, `[batch, …]` each; for images of different sizes a list, one array per row.
        tasks: The task of each row.
        single: Whether the caller passed one item instead of a list, and expects one answer.
        sizes: For images: the original `(height, width)` of each row, in pixels.
        texts: For texts: the text of each row.
        offsets: For texts: returns the start and end of each token of each row in its text, in characters.
    """

    arrays: Mapping[str, NDArray[Any] | list[NDArray[Any]]]
    tasks: Sequence[Task]
    single: bool = False
    sizes: Sequence[tuple[int, int]] = ()
    texts: Sequence[str] = ()
    offsets: Callable[[], Sequence[Offsets]] = tuple

    def shape_of(self, row: int) -> Hashable:
        """Return what rows must have in common to run in one batch."""
        return tuple(array[row].shape for array in self.arrays.values() if isinstance(array, list))

    def of_rows(self, rows: Sequence[int]) -> dict[str, NDArray[Any]]:
        """Return the graph's inputs for some rows of the same shape."""
        if len(rows) == len(self.tasks):
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

    def read(self, inputs: Any, tasks_of_rows: TasksOfRows) -> Request:
        """Convert the caller's inputs to arrays, each row for its task.

        Args:
            inputs: What the caller passed: one item, several, or arrays by name.
            tasks_of_rows: Called once the number of rows is known.

        Raises:
            InputError: A row cannot be read, or does not fit next to the prompt of its task.
        """


def open_requests(bundle: Bundle) -> Requests:
    """Create the reader of requests to `bundle`."""
    # each imports only what its modality needs, so the others start faster
    match bundle.manifest.preprocessing:
        case TextPreprocessing() as text:
            from edge_prompt_runtime.inputs.text.requests import TextRequests  # noqa: PLC0415

            return TextRequests(bundle, text)
        case LanguagePreprocessing() as language:
            from edge_prompt_runtime.inputs.chat.requests import LanguageRequests  # noqa: PLC0415

            return LanguageRequests(bundle, language)
        case ImagePreprocessing() as image:
            from edge_prompt_runtime.inputs.image.requests import ImageRequests  # noqa: PLC0415

            return ImageRequests(image)
        case ArrayPreprocessing() as arrays:
            from edge_prompt_runtime.inputs.arrays import ArrayRequests  # noqa: PLC0415

            return ArrayRequests(arrays)
