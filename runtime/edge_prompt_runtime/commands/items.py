"""Reading requests from JSON Lines files: one text or image path per line, with its label if there is one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from edge_prompt.base.errors import InputError
from edge_prompt.storage.files import require_file

ITEMS = {"text": "text", "language": "text", "image": "image"}
"""The field of a line that holds the request, by modality."""

BATCH_SIZE = 16
LABEL_FIELD = "label"


def batches(path: Path, item: str) -> Iterator[tuple[list[str], int]]:
    """Read the requests of a file batch by batch, each with the number of bytes it takes up in the file.

    Args:
        path: The file.
        item: The field to read from each line, a value of `ITEMS`. Image paths are relative to the file.

    Raises:
        MissingFileError: There is no such file.
        InputError: A line is malformed.
    """
    items: list[str] = []
    size_bytes = 0
    with require_file(path).open("rb") as stream:
        for number, line in enumerate(stream, 1):
            size_bytes += len(line)
            if line.strip():
                items.append(_READ_ITEM[item](_field_of(line, path, number, item), path))
            if len(items) == BATCH_SIZE:
                yield items, size_bytes
                items, size_bytes = [], 0
    if items:
        yield items, size_bytes


def labelled(path: Path, item: str, labels: tuple[str, ...]) -> list[tuple[str, str]]:
    """Read the requests of a file with their labels.

    Args:
        path: The file.
        item: See `batches`.
        labels: The labels that are allowed.

    Raises:
        MissingFileError: There is no such file.
        InputError: A line is malformed or has another label, or the file has no lines.
    """
    rows = []
    with require_file(path).open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if not line.strip():
                continue
            label = _field_of(line, path, number, LABEL_FIELD)
            if label not in labels:
                raise InputError(
                    found=f"{path}, line {number}: the label {label[:80]!r}",
                    wanted=f"one of {', '.join(labels[:20])}",
                    remedy="correct that line, or use a prompt that has this label",
                )
            rows.append((_READ_ITEM[item](_field_of(line, path, number, item), path), label))
    if not rows:
        raise InputError(
            found=f"{path} has no rows",
            wanted=f'one {{"{item}": "…", "label": "…"}} per line',
            remedy="add labelled rows to the file",
        )
    return rows


_READ_ITEM: dict[str, Callable[[str, Path], str]] = {
    "text": lambda text, _path: text,
    "image": lambda image, path: str(path.parent / image),
}
"""How to turn the field of a line into a request."""


def _field_of(line: bytes, path: Path, number: int, name: str) -> str:
    try:
        value = json.loads(line)[name]
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        found = f"not a JSON object with a field {name!r} ({type(error).__name__})"
        raise _line_error(path, number, name, found) from error
    if not isinstance(value, str) or not value.strip():
        found = f"an empty {name}" if isinstance(value, str) else f"a {type(value).__name__} as {name}"
        raise _line_error(path, number, name, found)
    return value


def _line_error(path: Path, number: int, name: str, found: str) -> InputError:
    return InputError(
        found=f"{path}, line {number}: {found}",
        wanted=f'{{"{name}": "…"}}',
        remedy="correct or delete that line",
    )
