"""Image backbones as an entry of the registry."""

from __future__ import annotations

from edge_prompt_export.modalities.image.checkpoint import AUTO_CLASSES, TASK_OF_HEAD, accepts_checkpoint, load
from edge_prompt_export.modalities.image.dataset import accepts_examples, read_dataset
from edge_prompt_export.modalities.image.recipe import RECIPE
from edge_prompt_export.modalities.modality import Modality

IMAGE = Modality(
    name="image",
    tasks=tuple(AUTO_CLASSES),
    feature_task="image-feature-extraction",
    task_of_head=TASK_OF_HEAD,
    accepts_checkpoint=accepts_checkpoint,
    load=load,
    accepts_examples=accepts_examples,
    read_dataset=read_dataset,
    recipe=RECIPE,
)
