"""Requests: the caller's inputs as arrays. One module per modality, imported when a bundle of it is opened."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_prompt.base.errors import InputError
from edge_prompt.formats.bundle import Bundle
from edge_prompt.formats.preprocessing import (
    ArrayPreprocessing,
    ImagePreprocessing,
    LanguagePreprocessing,
    TextPreprocessing,
)
from edge_prompt_runtime.tasks.task import Task

Offsets = tuple[tuple[int, int], ...]

Tasks = Task | Sequence[Task]
"""One task for all rows, or one task per row."""


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


class Requests(Protocol):
    """Reads the requests of one modality. Thread-safe."""

    def read(self, inputs: Any, tasks: Tasks) -> Request:
        """Convert the caller's inputs to arrays, each row for its task.

        Args:
            inputs: What the caller passed: one item, several, or arrays by name.
            tasks: One task for all rows, or one task per row.

        Raises:
            InputError: There are no rows, a row cannot be read or does not fit next to the prompt of its task, or the
                numbers of rows and tasks differ.
        """


def one_per_row(tasks: Tasks, rows: int) -> Sequence[Task]:
    """Return the task of each row.

    Raises:
        InputError: There are no rows, or the numbers of rows and tasks differ.
    """
    if rows == 0:
        raise InputError(found="the request has no rows", wanted="at least one row", remedy="leave out empty requests")
    if isinstance(tasks, Task):
        return [tasks] * rows
    if len(tasks) != rows:
        raise InputError(
            found=f"the request has {rows} rows and {len(tasks)} tasks",
            wanted="one task per row",
            remedy="pass one task for all rows, or as many tasks as rows",
        )
    return tasks


def require_room(tokens: Mapping[str, NDArray[np.int64]], tasks: Sequence[Task]) -> None:
    """Check that the tokens of each row fit next to the prompt of its task.

    Args:
        tokens: Token arrays by name, of which `attention_mask [batch, sequence]` is read.
        tasks: The task of each row.

    Raises:
        InputError: A row has too many tokens.
    """
    for row, task in enumerate(tasks):
        length = int(tokens["attention_mask"][row].sum())
        if length > task.max_tokens:
            raise InputError(
                found=f"row {row} has {length} tokens for {task.described}",
                wanted=f"at most {task.max_tokens}",
                remedy="shorten the row, or use a shorter prompt",
            )


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
