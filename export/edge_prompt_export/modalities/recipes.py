"""The table of modalities for tuning: examples, initial prompt, tuned module, and metrics of each modality."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from edge_prompt.base.errors import InputError
from edge_prompt.formats.preprocessing import ImagePreprocessing
from edge_prompt_export.backbone.backbone import LoadedBackbone
from edge_prompt_export.modalities.image.initialise import prompt_of_images
from edge_prompt_export.modalities.image.network import ConditionedVision
from edge_prompt_export.modalities.image.pixel_forms import PIXEL_FORMS
from edge_prompt_export.modalities.image.rows import ImageRows
from edge_prompt_export.modalities.language.figures import language_figures
from edge_prompt_export.modalities.language.initialise import free_of_language, prompt_of_text
from edge_prompt_export.modalities.language.network import ConditionedCausalLM
from edge_prompt_export.modalities.language.prompted import PromptedLanguageModel
from edge_prompt_export.modalities.language.rows import LanguageRows, language_rows, template_of
from edge_prompt_export.modalities.text.initialise import prompt_of_tokens, token_source
from edge_prompt_export.modalities.text.network import ConditionedTextEncoder
from edge_prompt_export.modalities.text.rows import TextRows, tokenise
from edge_prompt_export.training.classifiers import classifier_of
from edge_prompt_export.training.data import Example
from edge_prompt_export.training.examples import Examples
from edge_prompt_export.training.figures import Measure, accuracy_figures
from edge_prompt_export.training.prompted import PromptedClassifier
from edge_prompt_export.training.settings import TuneSettings

Prompted = PromptedClassifier | PromptedLanguageModel
"""A frozen network with a prompt as its parameter."""


class Modality(NamedTuple):
    """How prompts are tuned for a modality.

    Attributes:
        examples: Converts examples as read from a file to `Examples`.
        initial: Creates the initial prompt.
        prompted: Creates the module to tune from the initial prompt, the training examples and the labels.
        free: A mask with the shape of the prompt: 1 for values that are tuned, 0 for values that stay fixed. None
            tunes all values.
        measure: The validation metric.
        template: The template to store in the card.
    """

    examples: Callable[[LoadedBackbone, Sequence[Any], tuple[str, ...], TuneSettings], Examples]
    initial: Callable[[LoadedBackbone, Any, TuneSettings], Tensor]
    prompted: Callable[[LoadedBackbone, Tensor, Any, tuple[str, ...], TuneSettings], Prompted]
    free: Callable[[Tensor, TuneSettings], Tensor | None]
    measure: Measure
    template: Callable[[LoadedBackbone, TuneSettings], str]


def text_rows(
    backbone: LoadedBackbone, examples: Sequence[Example], labels: tuple[str, ...], settings: TuneSettings
) -> TextRows:
    """Put texts into the template, tokenise them, and truncate them to fit next to the prompt.

    Raises:
        InputError: The backbone has no tokenizer, or the prompt leaves no room for a text.
    """
    if backbone.tokenizer is None:
        raise InputError(
            found=f"{backbone.source} has no tokenizer",
            wanted="a checkpoint with a tokenizer",
            remedy="copy the tokenizer's files into the folder",
        )
    max_tokens = _max_tokens(backbone, settings.max_tokens, settings.virtual_tokens or 0)
    rows = tokenise(examples, labels, backbone.tokenizer, settings.template, max_tokens)
    takes_types = "token_type_ids" in backbone.module.input_names
    return TextRows(rows, backbone.text.pad_token_id, takes_types=takes_types)


def _prompt_for_texts(backbone: LoadedBackbone, training: TextRows, settings: TuneSettings) -> Tensor:
    module = backbone.module
    assert isinstance(module, ConditionedTextEncoder)  # noqa: S101 - chosen by its modality
    ids = token_source(
        settings.init or "", settings.init_text, backbone, training.rows, settings.virtual_tokens or 0, settings.seed
    )
    return prompt_of_tokens(settings.kind, module, ids)


def image_rows(
    backbone: LoadedBackbone, examples: Sequence[tuple[Any, str]], labels: tuple[str, ...], settings: TuneSettings
) -> ImageRows:
    """Images and their labels, preprocessed as on the device.

    Raises:
        InputError: The backbone does not define the preprocessing of images, or not their size.
    """
    preprocessing = backbone.preprocessing
    assert isinstance(preprocessing, ImagePreprocessing)  # noqa: S101 - chosen by its modality
    if preprocessing.settings is None or preprocessing.height is None:
        raise InputError(
            found=f"{backbone.source} does not resize images to one size",
            wanted="a preprocessor_config.json with one size",
            remedy="add this file, or set a size in it",
        )
    index = {label: number for number, label in enumerate(labels)}
    return ImageRows(
        [example[0] for example in examples],
        [index[example[1]] for example in examples],
        preprocessing.settings,
        settings.augment,
        settings.seed,
    )


def _prompt_for_images(backbone: LoadedBackbone, training: ImageRows, settings: TuneSettings) -> Tensor:
    module = backbone.module
    assert isinstance(module, ConditionedVision)  # noqa: S101 - chosen by its modality
    return prompt_of_images(
        settings.kind, settings.init or "", module, training, settings.virtual_tokens or 0, settings.seed
    )


def _prompt_for_language(backbone: LoadedBackbone, training: LanguageRows, settings: TuneSettings) -> Tensor:
    module, count = backbone.module, settings.virtual_tokens or 0
    assert isinstance(module, ConditionedCausalLM)  # noqa: S101 - chosen by its modality
    if settings.kind == "prefix" and count < 2:
        raise InputError(
            found="a prefix with only one virtual token, the first, which is not tuned",
            wanted="at least 2 virtual tokens",
            remedy="pass a larger --virtual-tokens",
        )
    ids = token_source(settings.init or "", settings.init_text, backbone, training.rows, count, settings.seed)
    return prompt_of_text(settings.kind, module, ids)


def _language_model(
    backbone: LoadedBackbone, prompt: Tensor, _training: Examples, _labels: tuple[str, ...], settings: TuneSettings
) -> PromptedLanguageModel:
    assert isinstance(backbone.module, ConditionedCausalLM)  # noqa: S101 - chosen by its modality
    return PromptedLanguageModel(backbone.module, settings.kind, prompt, dropout=settings.dropout)


def _pixels_of_form(prompt: Tensor, settings: TuneSettings) -> Tensor | None:
    """The mask of the pixel prompt's form; values outside of the form stay zero."""
    return PIXEL_FORMS[settings.pixel_form](*prompt.shape[1:]) if settings.kind == "pixel" else None


def _given_template(_backbone: LoadedBackbone, settings: TuneSettings) -> str:
    return settings.template


MODALITIES = {
    "text": Modality(
        examples=text_rows,
        initial=_prompt_for_texts,
        prompted=classifier_of,
        free=lambda _prompt, _settings: None,
        measure=accuracy_figures,
        template=_given_template,
    ),
    "language": Modality(
        examples=language_rows,
        initial=_prompt_for_language,
        prompted=_language_model,
        free=free_of_language,
        measure=language_figures,
        template=template_of,
    ),
    "image": Modality(
        examples=image_rows,
        initial=_prompt_for_images,
        prompted=classifier_of,
        free=_pixels_of_form,
        measure=accuracy_figures,
        template=_given_template,
    ),
}


def _max_tokens(backbone: LoadedBackbone, asked: int | None, virtual_tokens: int) -> int:
    room = backbone.max_tokens
    if backbone.max_positions is not None:
        room = min(room, backbone.max_positions - virtual_tokens)
    wanted = room if asked is None else asked
    if wanted > room or room < 3:
        raise InputError(
            found=f"{wanted} tokens per text in addition to {virtual_tokens} virtual tokens",
            wanted=f"at most {max(room, 0)} tokens per text",
            remedy="pass a smaller --max-tokens or --virtual-tokens",
        )
    return wanted
