"""How prompts are tuned for text encoders."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from edge_prompt.base.errors import InputError
from edge_prompt_export.modalities.text.backbone import TextBackbone
from edge_prompt_export.modalities.text.dataset import TextDataset
from edge_prompt_export.modalities.text.examples import TextExamples, tokenise
from edge_prompt_export.modalities.text.initialise import Vocabulary, prompt_of_tokens, token_source
from edge_prompt_export.training.classifiers import classifier_of
from edge_prompt_export.training.data import Example
from edge_prompt_export.training.metrics import accuracy_metrics
from edge_prompt_export.training.recipe import Recipe
from edge_prompt_export.training.settings import TuneSettings


def encode_texts(
    backbone: TextBackbone, examples: Sequence[Example], labels: tuple[str, ...], settings: TuneSettings
) -> TextExamples:
    """Put texts into the template, tokenise them, and truncate them to fit next to the prompt.

    Raises:
        InputError: The backbone has no tokenizer, or the prompt leaves no room for a text.
    """
    tokenizer = backbone.require_tokenizer()
    max_tokens = _max_tokens(backbone, settings.max_tokens, settings.virtual_tokens or 0)
    rows = tokenise(examples, labels, tokenizer, settings.template, max_tokens)
    takes_types = "token_type_ids" in backbone.module.input_names
    return TextExamples(rows, backbone.preprocessing.pad_token_id, takes_types=takes_types)


def initial_prompt(backbone: TextBackbone, training: TextExamples, settings: TuneSettings) -> Tensor:
    """The prompt that tuning starts from, with the axes of a prompt file.

    Raises:
        InputError: The initialisation is unknown, or the prompt has more tokens than the network has positions.
    """
    vocabulary = Vocabulary(backbone.require_tokenizer(), backbone.preprocessing.vocab_size)
    count = settings.virtual_tokens or 0
    ids = token_source(settings.init or "", settings.init_text, vocabulary, training.rows, count, settings.seed)
    return prompt_of_tokens(settings.kind, backbone.module, ids)


def _max_tokens(backbone: TextBackbone, asked: int | None, virtual_tokens: int) -> int:
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


RECIPE = Recipe(
    backbone=TextBackbone,
    datasets=(TextDataset,),
    encode=encode_texts,
    initial=initial_prompt,
    network=classifier_of,
    measure=accuracy_metrics,
)
