"""Examples for tuning as read from files, before tokenisation or preprocessing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

from edge_prompt.storage.files import sha256_of
from edge_prompt_export.training.data import HasLabel, labels_of, require_known_labels

RowT_co = TypeVar("RowT_co", covariant=True)
LabelledT = TypeVar("LabelledT", bound=HasLabel)


@dataclass(frozen=True)
class Dataset(Generic[RowT_co]):
    """Examples for training and validation; each modality has a subclass.

    Attributes:
        training: Training examples.
        validation: Validation examples; may be empty.
        labels: The class names, sorted; empty if completions are free text.
        path: The file or folder of the training examples, or None.
        modality: The name of the examples' modality in messages.
    """

    training: Sequence[RowT_co]
    validation: Sequence[RowT_co]
    labels: tuple[str, ...] = ()
    path: Path | None = None
    modality: ClassVar[str]

    def provenance(self) -> dict[str, object]:
        """The description of the data that is stored in a card."""
        digest = sha256_of(self.path) if self.path is not None and self.path.is_file() else None
        return {
            "file": None if self.path is None else self.path.name,
            "sha256": digest,
            "examples": len(self.training),
            "validation_examples": len(self.validation),
        }


def read_splits(
    read: Callable[[Path], Sequence[LabelledT]], train_file: Path, validation_file: Path | None
) -> tuple[Sequence[LabelledT], Sequence[LabelledT], tuple[str, ...]]:
    """Read labelled examples.

    Args:
        read: Reads the examples of one file or folder.
        train_file: The training examples.
        validation_file: The validation examples, or None.

    Returns:
        The training examples, the validation examples, and the class names.

    Raises:
        TrainingDataError: There is only one class, or a validation example has a class that no training example has.
    """
    training = read(train_file)
    labels = labels_of(training, train_file)
    if validation_file is None:
        return training, (), labels
    validation = read(validation_file)
    require_known_labels(validation, labels, validation_file)
    return training, validation, labels
