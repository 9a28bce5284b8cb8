"""Load an image backbone with its head, its image size and its preprocessing."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    AutoModel,
    AutoModelForImageClassification,
    AutoModelForObjectDetection,
    AutoModelForSemanticSegmentation,
    PreTrainedConfig,
)
from transformers.utils import cached_file

from edge_prompt.base.errors import BackboneError, ManifestError
from edge_prompt.formats.image_settings import ImageSettings
from edge_prompt.formats.preprocessing import ImagePreprocessing
from edge_prompt.storage.files import read_json
from edge_prompt_export.backbone.backbone import (
    Checkpoint,
    LoadOptions,
    first_run_errors,
    identity_of,
    loading_errors,
    task_of,
)
from edge_prompt_export.base.library_output import suppress_library_output
from edge_prompt_export.base.private_names import networks_of
from edge_prompt_export.modalities.image.backbone import ImageBackbone
from edge_prompt_export.modalities.image.network import ConditionedVision, image_config
from edge_prompt_export.modalities.image.pooling import IMAGE_POOLINGS
from edge_prompt_export.modalities.image.processors import settings_of

PREPROCESSOR_NAME = "preprocessor_config.json"

AUTO_CLASSES = {
    "image-feature-extraction": AutoModel,
    "image-classification": AutoModelForImageClassification,
    "object-detection": AutoModelForObjectDetection,
    "semantic-segmentation": AutoModelForSemanticSegmentation,
}

TASK_OF_HEAD = {
    "ForImageClassification": "image-classification",
    "ForImageClassificationWithTeacher": "image-classification",
    "ForObjectDetection": "object-detection",
    "ForSemanticSegmentation": "semantic-segmentation",
}
"""The task of a checkpoint, by the ending of its architecture's name; all others are loaded for feature extraction."""


def accepts_checkpoint(config: PreTrainedConfig, task: str | None, _options: LoadOptions) -> bool:
    """Whether the network takes images; for a network that takes images and texts, the task or its head decides."""
    if getattr(config, "vision_config", None) is not None:
        asked = task or task_of(config, TASK_OF_HEAD, "")
        return asked in AUTO_CLASSES or getattr(config, "text_config", None) is None
    network = networks_of(AutoModel).get(type(config), None)
    network = network[0] if isinstance(network, tuple) else network
    return getattr(network, "main_input_name", "") == "pixel_values"


def load(
    source: str, config: PreTrainedConfig, task: str | None, pooling: str | None, options: LoadOptions
) -> Checkpoint:
    """Load an image backbone, or the vision tower of a network for images and text; see `load_backbone`."""
    task = task or task_of(config, TASK_OF_HEAD, "image-feature-extraction")
    if task == "image-feature-extraction":
        config = image_config(config)
    if pooling not in (None, *IMAGE_POOLINGS):
        raise BackboneError(
            found=f"pooling by {pooling!r} for images",
            wanted=f"one of {', '.join(IMAGE_POOLINGS)}",
            remedy="choose one of them (--pooling)",
        )
    with loading_errors(source), suppress_library_output():
        model, info = AUTO_CLASSES[task].from_pretrained(
            source, config=config, dtype=torch.float32, output_loading_info=True, **options.arguments()
        )
    model.eval().requires_grad_(requires_grad=False)
    settings = _read_settings(source, options)
    image_size = _image_size(config) if settings is None else settings.fixed_size
    with first_run_errors(type(model).__name__), suppress_library_output():
        module = ConditionedVision(model, task, pooling, image_size)
        module.eval()
    height, width = image_size or (None, None)
    preprocessing = ImagePreprocessing(module.num_channels, height, width, settings, module.pooling, normalize=False)
    backbone = ImageBackbone(source, options, module, preprocessing, None, *identity_of(module))
    return Checkpoint(backbone, set(info["missing_keys"]))


def _read_settings(source: str, options: LoadOptions) -> ImageSettings | None:
    """The preprocessing settings; None if the checkpoint has none, in which case callers may pass pixel arrays."""
    with loading_errors(source):
        found = cached_file(
            source, PREPROCESSOR_NAME, _raise_exceptions_for_missing_entries=False, **options.file_arguments()
        )
    return None if found is None else settings_of(read_json(Path(found), ManifestError), PREPROCESSOR_NAME)


def _image_size(config: PreTrainedConfig) -> tuple[int, int] | None:
    size = getattr(image_config(config), "image_size", None)
    if isinstance(size, int):
        return size, size
    return (int(size[0]), int(size[1])) if isinstance(size, (list, tuple)) and len(size) == 2 else None
