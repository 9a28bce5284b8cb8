"""What a modality contributes, from checkpoint to tuned prompt; `registry` lists the modalities."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from transformers import PreTrainedConfig

from edge_prompt_export.backbone.backbone import Checkpoint, LoadOptions
from edge_prompt_export.training.dataset import Dataset
from edge_prompt_export.training.recipe import AnyRecipe


class Modality(NamedTuple):
    """What a modality contributes.

    Attributes:
        name: Its name in a manifest.
        tasks: The tasks that its networks can be loaded for, in transformers' terms.
        feature_task: The task that needs no head.
        task_of_head: The task of a checkpoint, by the ending of its architecture's name.
        accepts_checkpoint: Whether it loads a checkpoint for a task; None is the task of the checkpoint's head.
        load: Loads a checkpoint; see `edge_prompt_export.modalities.registry.load_backbone`.
        accepts_examples: Whether a file or folder contains its examples.
        read_dataset: Reads examples for training from a path, and for validation from another one or None.
        recipe: How its prompts are tuned.
    """

    name: str
    tasks: Collection[str]
    feature_task: str
    task_of_head: Mapping[str, str]
    accepts_checkpoint: Callable[[PreTrainedConfig, str | None, LoadOptions], bool]
    load: Callable[[str, PreTrainedConfig, str | None, str | None, LoadOptions], Checkpoint]
    accepts_examples: Callable[[Path], bool]
    read_dataset: Callable[[Path, Path | None], Dataset[object]]
    recipe: AnyRecipe
