"""Read training data, texts with labels, from JSON Lines, CSV or TSV; errors name the malformed line."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, Protocol, TextIO

from edge_prompt.base.errors import TrainingDataError
from edge_prompt.storage.files import require_file

TEXT_FIELD = "text"
LABEL_FIELD = "label"
_LONGEST_FIELD = 1 << 24

Refuse = Callable[[Path, int, str], NoReturn]
"""Raises an error that names the file, the line, and what was found there."""


class HasLabel(Protocol):
    """An example with a class."""

    @property
    def label(self) -> str:
        """The name of its class."""


class Example(NamedTuple):
    """One text and its class."""

    text: str
    label: str


def read_examples(path: Path) -> list[Example]:
    """Read the examples in a `.jsonl`, `.csv` or `.tsv` file with the fields `text` and `label`.

    The first line of a CSV or TSV file contains the field names. Labels may be strings, integers or booleans.

    Raises:
        MissingFileError: The file does not exist.
        TrainingDataError: A line is malformed (the message contains its number), or the file has no examples.
    """
    if path.suffix.lower() not in READERS:
        raise TrainingDataError(
            found=f"{path} ends in {path.suffix!r}",
            wanted=f"one of {', '.join(READERS)}",
            remedy="rename or convert the file",
        )
    require_file(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            examples = list(READERS[path.suffix.lower()](stream, path))
    except UnicodeDecodeError as error:
        raise TrainingDataError(
            found=f"{path} is not UTF-8 ({error})", wanted="UTF-8 text", remedy="convert the file"
        ) from error
    if not examples:
        raise TrainingDataError(found=f"{path} has no examples", wanted="at least two examples", remedy="add examples")
    return examples


def labels_of(examples: Sequence[HasLabel], path: Path) -> tuple[str, ...]:
    """The classes of `examples`, sorted.

    Raises:
        TrainingDataError: There is only one class.
    """
    labels = tuple(sorted({example.label for example in examples}))
    if len(labels) < 2:
        raise TrainingDataError(
            found=f"{path} has only one class, {labels[0]!r}",
            wanted="at least two classes",
            remedy="add examples of another class",
        )
    return labels


def require_known_labels(examples: Sequence[HasLabel], labels: tuple[str, ...], path: Path) -> None:
    """Refuse examples of a class that is not among `labels`."""
    unknown = Counter(example.label for example in examples if example.label not in labels)
    if unknown:
        raise TrainingDataError(
            found=f"{path} has examples of the unknown classes {', '.join(sorted(map(repr, unknown))[:5])}",
            wanted=f"only the classes {', '.join(labels[:20])}",
            remedy="correct the labels or remove those lines",
        )


def _read_json_lines(stream: TextIO, path: Path) -> Iterator[Example]:
    for number, row in json_rows(stream, path, _refuse_line):
        yield _example(row, path, number)


def json_rows(stream: TextIO, path: Path, refuse: Refuse) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSON Lines file with their line numbers; empty lines are skipped.

    Args:
        stream: The open file.
        path: Its path, for messages.
        refuse: Raises the error for a line that is not a JSON object.
    """
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            refuse(path, number, f"invalid JSON ({error})")
        if not isinstance(row, dict):
            refuse(path, number, f"a JSON {type(row).__name__}")
        yield number, row


def _read_table(delimiter: str) -> Callable[[TextIO, Path], Iterator[Example]]:
    def read(stream: TextIO, path: Path) -> Iterator[Example]:
        csv.field_size_limit(_LONGEST_FIELD)
        rows = csv.DictReader(stream, delimiter=delimiter, strict=True)
        try:
            for row in rows:
                if None in row or None in row.values():
                    _refuse_line(path, rows.line_num, f"not the {len(rows.fieldnames or ())} columns of the first line")
                yield _example(dict(row), path, rows.line_num)
        except csv.Error as error:
            _refuse_line(path, rows.reader.line_num, f"a malformed row ({error})")

    return read


READERS: dict[str, Callable[[TextIO, Path], Iterator[Example]]] = {
    ".jsonl": _read_json_lines,
    ".csv": _read_table(","),
    ".tsv": _read_table("\t"),
}


def _example(row: dict[str, object], path: Path, number: int) -> Example:
    missing = [name for name in (TEXT_FIELD, LABEL_FIELD) if row.get(name) is None or row[name] == ""]
    if missing:
        _refuse_line(path, number, f"no {' and no '.join(missing)}")
    text, label = row[TEXT_FIELD], row[LABEL_FIELD]
    if not isinstance(text, str) or not text.strip():
        _refuse_line(path, number, f"{TEXT_FIELD!r} is {'empty' if isinstance(text, str) else type(text).__name__}")
    if not isinstance(label, (str, int)):
        _refuse_line(path, number, f"{LABEL_FIELD!r} is {type(label).__name__}")
    return Example(text, str(label))


def _refuse_line(path: Path, number: int, found: str) -> NoReturn:
    raise TrainingDataError(
        found=f"{path}, line {number}: {found}",
        wanted=f"the fields {TEXT_FIELD!r} (a text) and {LABEL_FIELD!r} (a string or integer)",
        remedy="correct or remove that line",
    )
