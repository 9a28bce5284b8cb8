"""How prompts are tuned for image backbones."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from edge_prompt.base.errors import InputError
from edge_prompt_export.modalities.image.backbone import ImageBackbone
from edge_prompt_export.modalities.image.dataset import ImageDataset, ImageExample
from edge_prompt_export.modalities.image.examples import ImageExamples
from edge_prompt_export.modalities.image.initialise import prompt_of_images
from edge_prompt_export.modalities.image.pixel_forms import PIXEL_FORMS
from edge_prompt_export.training.classifiers import classifier_of
from edge_prompt_export.training.metrics import accuracy_metrics
from edge_prompt_export.training.recipe import Recipe
from edge_prompt_export.training.settings import TuneSettings


def encode_images(
    backbone: ImageBackbone,
    examples: Sequence[ImageExample],
    labels: tuple[str, ...],
    settings: TuneSettings,
) -> ImageExamples:
    """Images and their labels, preprocessed as on the device.

    Raises:
        InputError: The backbone does not define the preprocessing of images, or not their size.
    """
    preprocessing = backbone.preprocessing
    if preprocessing.settings is None or preprocessing.height is None:
        raise InputError(
            found=f"{backbone.source} does not resize images to one size",
            wanted="a preprocessor_config.json with one size",
            remedy="add this file, or set a size in it",
        )
    index = {label: number for number, label in enumerate(labels)}
    return ImageExamples(
        [image for image, _ in examples],
        [index[label] for _, label in examples],
        preprocessing.settings,
        settings.augment,
        settings.seed,
    )


def initial_prompt(backbone: ImageBackbone, training: ImageExamples, settings: TuneSettings) -> Tensor:
    """The prompt that tuning starts from, with the axes of a prompt file.

    Raises:
        InputError: The initialisation is unknown.
    """
    count = settings.virtual_tokens or 0
    return prompt_of_images(settings.kind, settings.init or "", backbone.module, training, count, settings.seed)


def pixel_mask(prompt: Tensor, settings: TuneSettings) -> Tensor | None:
    """The mask of the pixel prompt's form; values outside of the form stay zero."""
    return PIXEL_FORMS[settings.pixel_form](*prompt.shape[1:]) if settings.kind == "pixel" else None


RECIPE = Recipe(
    backbone=ImageBackbone,
    datasets=(ImageDataset,),
    encode=encode_images,
    initial=initial_prompt,
    network=classifier_of,
    measure=accuracy_metrics,
    mask=pixel_mask,
)
