"""Training data: texts and labels from JSON Lines, CSV or TSV, refused line by line where they are broken."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TextIO

from edge_prompt.base.errors import TrainingDataError
from edge_prompt.storage.files import require_file

TEXT_FIELD = "text"
LABEL_FIELD = "label"
_LONGEST_FIELD = 1 << 24

Refuse = Callable[[Path, int, str], NoReturn]
"""Raises what says the file, the line and what was found there."""


class Example(NamedTuple):
    """One text and its class."""

    text: str
    label: str


def read_examples(path: Path) -> list[Example]:
    """Read the examples in a `.jsonl`, `.csv` or `.tsv` file with the fields `text` and `label`.

    A CSV or TSV file names its fields in the first line. Labels may be strings, integers or booleans.

    Raises:
        MissingFileError: There is no such file.
        TrainingDataError: A line is broken (the message gives its number), or the file has no example.
    """
    if path.suffix.lower() not in READERS:
        raise TrainingDataError(
            found=f"{path} ends in {path.suffix!r}",
            wanted=f"one of {', '.join(READERS)}",
            remedy="rename or convert it",
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
        raise TrainingDataError(found=f"{path} has no example", wanted="at least two", remedy="add examples")
    return examples


def labels_of(examples: Sequence[Any], path: Path) -> tuple[str, ...]:
    """The classes of `examples`, sorted.

    Raises:
        TrainingDataError: There is only one.
    """
    labels = tuple(sorted({example.label for example in examples}))
    if len(labels) < 2:
        raise TrainingDataError(
            found=f"{path} has one class, {labels[0]!r}", wanted="at least two", remedy="add examples of another class"
        )
    return labels


def require_known_labels(examples: Sequence[Any], labels: tuple[str, ...], path: Path) -> None:
    """Refuse examples of a class that is not among `labels`."""
    unknown = Counter(example.label for example in examples if example.label not in labels)
    if unknown:
        raise TrainingDataError(
            found=f"{path} has the classes {', '.join(sorted(map(repr, unknown))[:5])}",
            wanted=f"only {', '.join(labels[:20])}",
            remedy="correct the labels or leave those lines out",
        )


def _read_json_lines(stream: TextIO, path: Path) -> Iterator[Example]:
    for number, row in json_rows(stream, path, _refuse):
        yield _example(row, path, number)


def json_rows(stream: TextIO, path: Path, refuse: Refuse) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file of JSON Lines with the numbers of their lines; empty lines are left out.

    Args:
        stream: The file, opened.
        path: Its path, for messages.
        refuse: What raises on a line that holds something else.
    """
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            refuse(path, number, f"no JSON ({error})")
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
                    _refuse(path, rows.line_num, f"not the {len(rows.fieldnames or ())} columns of the first line")
                yield _example(dict(row), path, rows.line_num)
        except csv.Error as error:
            _refuse(path, rows.reader.line_num, f"a broken row ({error})")

    return read


READERS: dict[str, Callable[[TextIO, Path], Iterator[Example]]] = {
    ".jsonl": _read_json_lines,
    ".csv": _read_table(","),
    ".tsv": _read_table("\t"),
}


def _example(row: dict[str, object], path: Path, number: int) -> Example:
    missing = [name for name in (TEXT_FIELD, LABEL_FIELD) if row.get(name) is None or row[name] == ""]
    if missing:
        _refuse(path, number, f"no {' and no '.join(missing)}")
    text, label = row[TEXT_FIELD], row[LABEL_FIELD]
    if not isinstance(text, str) or not text.strip():
        _refuse(path, number, f"{TEXT_FIELD!r} is {'empty' if isinstance(text, str) else type(text).__name__}")
    if not isinstance(label, (str, int)):
        _refuse(path, number, f"{LABEL_FIELD!r} is {type(label).__name__}")
    return Example(text, str(label))


def _refuse(path: Path, number: int, found: str) -> NoReturn:
    raise TrainingDataError(
        found=f"{path}, line {number}: {found}",
        wanted=f"the fields {TEXT_FIELD!r} (a text) and {LABEL_FIELD!r} (a string or integer)",
        remedy="correct that line or leave it out",
    )
