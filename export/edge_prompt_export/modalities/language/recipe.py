"""How prompts are tuned for causal language models."""

from __future__ import annotations

from torch import Tensor

from edge_prompt.base.errors import InputError
from edge_prompt_export.modalities.language.backbone import LanguageBackbone
from edge_prompt_export.modalities.language.dataset import LanguageDataset
from edge_prompt_export.modalities.language.examples import CompletionExamples, encode_completions, template_of
from edge_prompt_export.modalities.language.initialise import first_token_mask, prompt_of_text
from edge_prompt_export.modalities.language.metrics import language_metrics
from edge_prompt_export.modalities.language.prompted_network import PromptedLanguageModel
from edge_prompt_export.modalities.text.dataset import TextDataset
from edge_prompt_export.modalities.text.initialise import Vocabulary, token_source
from edge_prompt_export.training.recipe import Recipe
from edge_prompt_export.training.settings import TuneSettings


def initial_prompt(backbone: LanguageBackbone, training: CompletionExamples, settings: TuneSettings) -> Tensor:
    """The prompt that tuning starts from, with the axes of a prompt file.

    Raises:
        InputError: The initialisation is unknown, or the prefix has only the token that is not tuned.
    """
    count = settings.virtual_tokens or 0
    if settings.kind == "prefix" and count < 2:
        raise InputError(
            found="a prefix with only one virtual token, the first, which is not tuned",
            wanted="at least 2 virtual tokens",
            remedy="pass a larger --virtual-tokens",
        )
    vocabulary = Vocabulary(backbone.require_tokenizer(), backbone.preprocessing.vocab_size)
    ids = token_source(settings.init or "", settings.init_text, vocabulary, training.rows, count, settings.seed)
    return prompt_of_text(settings.kind, backbone.module, ids)


def language_network(
    backbone: LanguageBackbone,
    prompt: Tensor,
    _training: CompletionExamples,
    _labels: tuple[str, ...],
    settings: TuneSettings,
) -> PromptedLanguageModel:
    """The module to tune."""
    return PromptedLanguageModel(backbone.module, settings.kind, prompt, dropout=settings.dropout)


RECIPE = Recipe(
    backbone=LanguageBackbone,
    datasets=(LanguageDataset, TextDataset),
    encode=encode_completions,
    initial=initial_prompt,
    network=language_network,
    measure=language_metrics,
    mask=first_token_mask,
    template=template_of,
)
