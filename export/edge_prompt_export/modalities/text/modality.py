"""Text encoders as an entry of the registry."""

from __future__ import annotations

from edge_prompt_export.modalities.modality import Modality
from edge_prompt_export.modalities.text.checkpoint import AUTO_CLASSES, TASK_OF_HEAD, accepts_checkpoint, load
from edge_prompt_export.modalities.text.dataset import accepts_examples, read_dataset
from edge_prompt_export.modalities.text.recipe import RECIPE

TEXT = Modality(
    name="text",
    tasks=tuple(AUTO_CLASSES),
    feature_task="feature-extraction",
    task_of_head=TASK_OF_HEAD,
    accepts_checkpoint=accepts_checkpoint,
    load=load,
    accepts_examples=accepts_examples,
    read_dataset=read_dataset,
    recipe=RECIPE,
)
