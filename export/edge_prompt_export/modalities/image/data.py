"""Read labelled images: one subfolder per class, or a CSV file of paths and labels."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from edge_prompt.base.errors import MissingFileError, TrainingDataError
from edge_prompt.storage.files import open_regular_file, require_file

_ROW = "one path and one label per line"

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})


class LabelledImage(NamedTuple):
    """An image and its class."""

    path: Path
    label: str


def read_labelled_images(path: Path) -> list[LabelledImage]:
    """The labelled images of `path`.

    Args:
        path: A folder with one subfolder of images per class, or a `.csv` file with the fields `path` and `label`. The
            paths are relative to the folder of the file.

    Raises:
        MissingFileError: The file or folder does not exist, or an image named in the file does not exist.
        TrainingDataError: There are no images, or a line is malformed (the message contains its number).
    """
    if not path.exists():
        raise MissingFileError(
            found=f"{path}: no such file or folder",
            wanted="a folder with one subfolder per class, or a .csv file",
            remedy="check the path",
        )
    images = _of_folder(path) if path.is_dir() else _of_csv(path)
    if not images:
        _refuse_images(
            f"{path} has no image", "images in one subfolder per class" if path.is_dir() else "one line per image"
        )
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
    with open_regular_file(path) as stream:
        try:
            text = stream.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            _refuse_images(f"{path} is not UTF-8 text ({error.reason})", "a .csv file with the fields path and label")
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        if not {"path", "label"} <= set(reader.fieldnames or ()):
            _refuse_images(f"{path} has the fields {reader.fieldnames}", "the fields path and label")
        return [_of_row(row, path, reader.line_num) for row in reader]
    except csv.Error as error:
        _refuse_images(f"{path}, line {reader.reader.line_num}: a malformed row ({error})", _ROW)


def _of_row(row: dict[Any, Any], path: Path, number: int) -> LabelledImage:
    if None in row:  # for example, a label with an unquoted comma
        _refuse_images(f"{path}, line {number}: more columns than the first line", _ROW)
    name, label = (row["path"] or "").strip(), (row["label"] or "").strip()
    if not name or not label:
        _refuse_images(f"{path}, line {number}: no {'path' if not name else 'label'}", _ROW)
    try:
        return LabelledImage(require_file(path.parent / name), label)
    except MissingFileError as error:
        raise MissingFileError(
            found=f"{path}, line {number}: {error.found}", wanted="an image", remedy="correct the path"
        ) from error


def _refuse_images(found: str, wanted: str) -> NoReturn:
    raise TrainingDataError(found=found, wanted=wanted, remedy="correct the data")
