"""Labelled texts for tuning."""

from __future__ import annotations

from pathlib import Path

from edge_prompt_export.training.data import Example, read_examples
from edge_prompt_export.training.dataset import Dataset, read_splits


class TextDataset(Dataset[Example]):
    """Labelled texts; see `Dataset`."""

    modality = "text"


def accepts_examples(_path: Path) -> bool:
    """Whether a path contains labelled texts: any path that no other modality accepts."""
    return True


def read_dataset(train_file: Path, validation_file: Path | None) -> TextDataset:
    """Read labelled texts; see `read_examples` and `read_splits`."""
    return TextDataset(*read_splits(read_examples, train_file, validation_file), train_file)
