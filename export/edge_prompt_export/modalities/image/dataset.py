"""Labelled images for tuning."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from edge_prompt_export.modalities.image.data import read_labelled_images
from edge_prompt_export.training.dataset import Dataset, read_splits

if TYPE_CHECKING:
    from edge_prompt_runtime.inputs.image.files import ImageInput

ImageExample: TypeAlias = "tuple[ImageInput, str]"
"""An image and its label: a `LabelledImage`, or another pair."""

_LONGEST_HEADER = 1 << 16


class ImageDataset(Dataset[ImageExample]):
    """Labelled images; see `Dataset`."""

    modality = "image"


def accepts_examples(path: Path) -> bool:
    """Whether a path contains images: a folder, or a `.csv` file with a field `path`."""
    if path.is_dir():
        return True
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        return "path" in next(csv.reader([stream.readline(_LONGEST_HEADER)]), [])


def read_dataset(train_file: Path, validation_file: Path | None) -> ImageDataset:
    """Read labelled images; see `read_labelled_images` and `read_splits`."""
    return ImageDataset(*read_splits(read_labelled_images, train_file, validation_file), train_file)
