"""Completions for tuning a language model."""

from __future__ import annotations

from pathlib import Path

from edge_prompt_export.modalities.language.data import Chat, Pair, read_language
from edge_prompt_export.training.dataset import Dataset


class LanguageDataset(Dataset[Pair | Chat]):
    """Prompts or chats with completions; see `Dataset`."""

    modality = "language"


def read_dataset(train_file: Path, validation_file: Path | None) -> LanguageDataset:
    """Read completions; see `read_language`."""
    validation = [] if validation_file is None else read_language(validation_file)
    return LanguageDataset(read_language(train_file), validation, (), train_file)
