"""Causal language models as an entry of the registry."""

from __future__ import annotations

from edge_prompt_export.modalities.language.checkpoint import AUTO_CLASSES, accepts_checkpoint, load
from edge_prompt_export.modalities.language.data import is_of_language as accepts_examples
from edge_prompt_export.modalities.language.dataset import read_dataset
from edge_prompt_export.modalities.language.recipe import RECIPE
from edge_prompt_export.modalities.modality import Modality

LANGUAGE = Modality(
    name="language",
    tasks=tuple(AUTO_CLASSES),
    feature_task="feature-extraction",
    task_of_head={},
    accepts_checkpoint=accepts_checkpoint,
    load=load,
    accepts_examples=accepts_examples,
    read_dataset=read_dataset,
    recipe=RECIPE,
)
