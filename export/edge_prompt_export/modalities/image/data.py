"""Labelled images: a folder a class, or a CSV file of paths and labels."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from edge_prompt.base.errors import MissingFileError, TrainingDataError
from edge_prompt.storage.files import opened, require_file

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})


class LabelledImage(NamedTuple):
    """An image and its class."""

    path: Path
    label: str


def read_labelled_images(path: Path) -> list[LabelledImage]:
    """The labelled images of `path`.

    Args:
        path: A folder that holds a folder of images a class, or a `.csv` file with the fields `path` and `label`, whose
            paths are taken from the file's own folder.

    Raises:
        MissingFileError: There is no such file or folder, or an image that the file names is not there.
        TrainingDataError: There is no image, or a line is malformed; named by its number.
    """
    if not path.exists():
        raise MissingFileError(
            found=f"{path}: no such file or folder", wanted="a folder a class, or a .csv file", remedy="check the path"
        )
    images = _of_folder(path) if path.is_dir() else _of_csv(path)
    if not images:
        _refuse(f"{path} has no image", "images in a folder a class" if path.is_dir() else "a line an image")
    return images


def _of_folder(folder: Path) -> list[LabelledImage]:
    return [
        LabelledImage(path, inner.name)
        for inner in sorted(folder.iterdir())
        if inner.is_dir() and not inner.name.startswith(".")
        for path in sorted(inner.iterdir())
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]


def _of_csv(path: Path) -> list[LabelledImage]:
    with opened(path) as stream:
        try:
            text = stream.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            _refuse(f"{path} is no UTF-8 text ({error.reason})", "a .csv file with the fields path and label")
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        if not {"path", "label"} <= set(reader.fieldnames or ()):
            _refuse(f"{path} has the fields {reader.fieldnames}", "the fields path and label")
        return [_of_row(row, path, reader.line_num) for row in reader]
    except csv.Error as error:
        _refuse(f"{path}, line {reader.reader.line_num}: a broken row ({error})", "a path and a label a line")


def _of_row(row: dict[Any, Any], path: Path, number: int) -> LabelledImage:
    if None in row:  # as of a label with a comma and no quotes
        _refuse(f"{path}, line {number}: more columns than the first line", "a path and a label a line")
    name, label = (row["path"] or "").strip(), (row["label"] or "").strip()
    if not name or not label:
        _refuse(f"{path}, line {number}: no {'path' if not name else 'label'}", "a path and a label a line")
    try:
        return LabelledImage(require_file(path.parent / name), label)
    except MissingFileError as error:
        raise MissingFileError(
            found=f"{path}, line {number}: {error.found}", wanted="an image", remedy="correct the path"
        ) from error


def _refuse(found: str, wanted: str) -> NoReturn:
    raise TrainingDataError(found=found, wanted=wanted, remedy="correct the data")
