"""Examples for tuning as they were read: texts, images, or what a language model is to say."""

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
    """Examples as they were read.

    Attributes:
        modality: `text`, `language` or `image`.
        training: To train on: `Example` or `LabelledImage`, or anything with a `label` and what the modality reads; of
            language models also `Pair` or `Chat`.
        held: To validate on; empty for none.
        labels: The class names, sorted; empty where completions are no classes.
        path: Where they were read from, or None.
    """

    modality: str
    training: Sequence[Any]
    held: Sequence[Any]
    labels: tuple[str, ...]
    path: Path | None = None

    def require(self, modality: str, backbone: LoadedBackbone) -> str:
        """The modality of the backbone, if it reads these examples.

        Raises:
            InputError: It does not.
        """
        if self.modality not in READ_BY[modality]:
            raise InputError(
                found=f"{self.modality} examples for {backbone.source}, which reads {' and '.join(READ_BY[modality])}",
                wanted=f"{READ_BY[modality][0]} examples",
                remedy="pass other data, or another backbone",
            )
        return modality

    def described(self) -> dict[str, object]:
        """What a card says of them."""
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
"""What examples a backbone of each modality reads; to a language model the text of a label is what is to be said."""


def read_labelled(train_file: Path, validation_file: Path | None) -> Labelled:
    """Read examples for tuning.

    A folder, or a `.csv` with a field `path`, is of images; a `.jsonl` with completions is for language models.

    Raises:
        MissingFileError: There is no such file or folder.
        TrainingDataError: The data is malformed, or has one class.
    """
    if not train_file.exists():
        raise MissingFileError(
            found=f"{train_file}: no such file or folder",
            wanted="a file of examples, or a folder that holds a folder of images a class",
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
        reads: Whether a path is of that modality.
        read: Its examples.
        labelled: Whether they have labels.
    """

    reads: Callable[[Path], bool]
    read: Callable[[Path], Sequence[Any]]
    labelled: bool = True


READERS = {
    "image": Reader(_is_of_images, read_labelled_images),
    "language": Reader(is_of_language, read_language, labelled=False),
    "text": Reader(lambda _path: True, read_examples),
}
"""The first that reads a path is asked."""
