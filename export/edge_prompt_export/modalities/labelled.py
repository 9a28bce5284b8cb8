"""Read examples for tuning: labelled texts, labelled images, or completions for a language model."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from edge_prompt.base.errors import InputError, MissingFileError
from edge_prompt.storage.files import sha256_of
from edge_prompt_export.backbone.backbone import LoadedBackbone
from edge_prompt_export.modalities.image.data import read_labelled_images
from edge_prompt_export.modalities.language.data import is_of_language, read_language
from edge_prompt_export.training.data import labels_of, read_examples, require_known_labels


@dataclass(frozen=True)
class Labelled:
    """Examples as read from files, before tokenisation or preprocessing.

    Attributes:
        modality: `text`, `language` or `image`.
        training: Training examples: `Example` or `LabelledImage`, or any object with a `label` and the modality's
            input; for language models also `Pair` or `Chat`.
        held: Validation examples; may be empty.
        labels: The class names, sorted; empty if completions are free text.
        path: The file or folder of the training examples, or None.
    """

    modality: str
    training: Sequence[Any]
    held: Sequence[Any]
    labels: tuple[str, ...]
    path: Path | None = None

    def require(self, modality: str, backbone: LoadedBackbone) -> str:
        """Check that a backbone of `modality` reads these examples, and return the modality.

        Raises:
            InputError: The backbone does not read such examples.
        """
        if self.modality not in READ_BY[modality]:
            raise InputError(
                found=f"{self.modality} examples for {backbone.source}, which reads {' and '.join(READ_BY[modality])}",
                wanted=f"{READ_BY[modality][0]} examples",
                remedy="use other data or another backbone",
            )
        return modality

    def described(self) -> dict[str, object]:
        """The description of the data that is stored in a card."""
        digest = sha256_of(self.path) if self.path is not None and self.path.is_file() else None
        return {
            "file": None if self.path is None else self.path.name,
            "sha256": digest,
            "examples": len(self.training),
            "validation_examples": len(self.held),
        }


READ_BY = {
    "text": ("text",),
    "language": ("language", "text"),
    "image": ("image",),
    "arrays": ("arrays",),
}
"""The examples that a backbone of each modality reads; a language model uses the text of a label as the completion."""


def read_labelled(train_file: Path, validation_file: Path | None) -> Labelled:
    """Read examples for tuning.

    A folder, or a `.csv` file with a field `path`, contains images. A `.jsonl` file with completions is for language
    models. Any other file contains labelled texts.

    Raises:
        MissingFileError: The file or folder does not exist.
        TrainingDataError: The data is malformed, or has only one class.
    """
    if not train_file.exists():
        raise MissingFileError(
            found=f"{train_file}: no such file or folder",
            wanted="a file of examples, or a folder with one subfolder of images per class",
            remedy="check the path",
        )
    modality = next(name for name, reader in READERS.items() if reader.reads(train_file))
    reader = READERS[modality]
    training = reader.read(train_file)
    labels = labels_of(training, train_file) if reader.labelled else ()
    held = [] if validation_file is None else reader.read(validation_file)
    if validation_file is not None and reader.labelled:
        require_known_labels(held, labels, validation_file)
    return Labelled(modality, training, held, labels, train_file)


def _is_of_images(path: Path) -> bool:
    if path.is_dir():
        return True
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        return "path" in next(csv.reader([stream.readline(1 << 16)]), [])


class Reader(NamedTuple):
    """How examples of a modality are read.

    Attributes:
        reads: Whether a path contains examples of this modality.
        read: Reads the examples of a path.
        labelled: Whether the examples have labels.
    """

    reads: Callable[[Path], bool]
    read: Callable[[Path], Sequence[Any]]
    labelled: bool = True


READERS = {
    "image": Reader(_is_of_images, read_labelled_images),
    "language": Reader(is_of_language, read_language, labelled=False),
    "text": Reader(lambda _path: True, read_examples),
}
"""The readers by modality; the first one that accepts a path reads it."""
