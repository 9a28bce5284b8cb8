"""Examples of language models: prompts in their template, completions to their end, as token rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedTokenizerBase

from edge_prompt.base.errors import InputError, TrainingDataError
from edge_prompt.formats.card import TEMPLATE_FIELD
from edge_prompt.formats.preprocessing import LanguagePreprocessing
from edge_prompt_export.backbone.backbone import LoadedBackbone
from edge_prompt_export.modalities.language.data import Chat, Pair
from edge_prompt_export.modalities.text.rows import TokenRows
from edge_prompt_export.training.data import Example
from edge_prompt_export.training.examples import Batch
from edge_prompt_export.training.settings import TuneSettings
from edge_prompt_runtime.inputs.text.tokenizer import begun_tokens


class LanguageRow(NamedTuple):
    """One tokenised example.

    Attributes:
        input_ids: Prompt and completion.
        completion: How many of them, at the end, are the completion, its end included.
        label: The number of its class; None where there are no classes.
    """

    input_ids: list[int]
    completion: int
    label: int | None = None


class LanguageRows(TokenRows[LanguageRow]):
    """Tokenised prompts and completions.

    Rows are filled up on the left, as the device lays them out: so all completions end at the same place, and logits
    are made of the last places only.

    Args:
        rows: The examples.
        label_tokens: The tokens of each class, its end included; empty where there are no classes.

    Attributes:
        label_tokens: As given.
    """

    def __init__(self, rows: Sequence[LanguageRow], label_tokens: Sequence[list[int]] = ()) -> None:
        super().__init__(rows)
        self.label_tokens = label_tokens

    def collated(self, rows: Sequence[LanguageRow]) -> Batch:
        """Prompts and completions without their last token, which nothing follows.

        Returns:
            `input_ids` and `attention_mask`, `[batch, sequence]`, and `scored [batch, longest completion]` bool: after
            which of the last places a token of the completion is to follow. Labels are those tokens, row by row.
        """
        request = filled_left([row.input_ids[:-1] for row in rows])
        longest = max(row.completion for row in rows)
        lengths = torch.tensor([row.completion for row in rows])
        request["scored"] = torch.arange(longest) >= longest - lengths[:, None]
        return Batch(request, torch.tensor([token for row in rows for token in row.input_ids[-row.completion :]]))


def filled_left(rows: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
    """Token rows as `input_ids` and `attention_mask`, `[batch, longest]`, filled up on the left."""
    longest = max(map(len, rows))
    input_ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros_like(input_ids)
    for number, row in enumerate(rows):
        input_ids[number, longest - len(row) :] = torch.tensor(row)
        mask[number, longest - len(row) :] = 1
    return {"input_ids": input_ids, "attention_mask": mask}


def language_rows(
    backbone: LoadedBackbone,
    examples: Sequence[Example | Pair | Chat],
    labels: tuple[str, ...],
    settings: TuneSettings,
) -> LanguageRows:
    """Prompts and completions, tokenised as the device does.

    Raises:
        InputError: The backbone has no tokenizer of the device's form or no token that ends texts; or its chat
            template does not fit; or chats are to be put into a template.
        TrainingDataError: An example is longer than what fits beside the prompt, or no chat of the model's form.
    """
    template, end = template_of(backbone, settings), end_token_of(backbone)
    tokenizer = _tokenizer_of(backbone)
    if template != TEMPLATE_FIELD and examples and isinstance(examples[0], Chat):
        raise InputError(
            found="a template for the messages of chats",
            wanted="none: the model's chat template holds them",
            remedy="leave --chat, --system and --template out",
        )
    room = _positions_of(backbone) - (settings.virtual_tokens or 0)
    backend: Any = tokenizer.backend_tokenizer

    def plain(text: str) -> list[int]:
        ids: list[int] = backend.encode(text, add_special_tokens=False).ids
        return ids

    def ended(text: str) -> list[int]:
        return [*plain(text), end]

    rows = []
    for number, example in enumerate(examples, 1):
        text, completion, label = _PARTS[type(example)](example, template, tokenizer, number)
        said = ended(completion)
        ids = (plain(text) if isinstance(example, Chat) else begun_tokens(backend, text)) + said
        if len(ids) > room:
            raise TrainingDataError(
                found=f"example {number}: {len(ids)} tokens with its completion",
                wanted=f"at most {max(room, 0)}, which fit beside {settings.virtual_tokens} virtual tokens",
                remedy="shorten it or leave it out",
            )
        rows.append(LanguageRow(ids, len(said), labels.index(label) if label else None))
    return LanguageRows(rows, [ended(label) for label in labels])


def template_of(backbone: LoadedBackbone, settings: TuneSettings) -> str:
    """The template of the card: the one asked for, or the chat template with `{text}` as the message of a user.

    Raises:
        InputError: Both are asked for, or a system text without a chat; or the model has no chat template, or one that
            does not hold the message once.
    """
    if settings.chat and settings.template == TEMPLATE_FIELD:
        messages = [] if settings.system is None else [{"role": "system", "content": settings.system}]
        rendered = _rendered([*messages, {"role": "user", "content": TEMPLATE_FIELD}], _tokenizer_of(backbone))
        if rendered.count(TEMPLATE_FIELD) == 1:
            return rendered
        raise InputError(
            found=f"a chat of {rendered.count(TEMPLATE_FIELD)} times {TEMPLATE_FIELD}",
            wanted="it once",
            remedy="leave it out of --system, or pass --template",
        )
    if settings.chat or settings.system is not None:
        raise InputError(
            found="a system text without --chat" if not settings.chat else "both --chat and --template",
            wanted="a template, or a chat and if you like its system text",
            remedy="leave one out" if settings.chat else "pass --chat",
        )
    return settings.template


def end_token_of(backbone: LoadedBackbone) -> int:
    """The token that ends texts, the first if there are several: what the device stops at.

    Raises:
        InputError: The model says none.
    """
    model: Any = backbone.module.model
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    if not ends or ends[0] is None:
        raise InputError(
            found=f"{backbone.source} says no token that ends texts",
            wanted="eos_token_id in its generation_config.json",
            remedy="write it there",
        )
    return int(ends[0])


def _of_label(example: Example, template: str, _tokenizer: PreTrainedTokenizerBase, _number: int) -> tuple[str, ...]:
    return template.replace(TEMPLATE_FIELD, example.text), example.label, example.label


def _of_pair(example: Pair, template: str, _tokenizer: PreTrainedTokenizerBase, _number: int) -> tuple[str, ...]:
    return template.replace(TEMPLATE_FIELD, example.prompt), example.completion, ""


def _of_chat(example: Chat, _template: str, tokenizer: PreTrainedTokenizerBase, number: int) -> tuple[str, ...]:
    try:
        return _rendered(example.messages, tokenizer), example.completion, ""
    except InputError as error:
        raise TrainingDataError(
            found=f"example {number}: {error.found}", wanted=error.wanted, remedy="correct it or leave it out"
        ) from error


_PARTS: dict[type, Callable[[Any, str, PreTrainedTokenizerBase, int], tuple[str, ...]]] = {
    Example: _of_label,
    Pair: _of_pair,
    Chat: _of_chat,
}
"""The text before the completion, the completion, and the label or nothing, of each form."""


def _rendered(messages: Sequence[Any], tokenizer: PreTrainedTokenizerBase) -> str:
    """Messages in the model's chat template, up to where the assistant speaks."""
    try:
        text = tokenizer.apply_chat_template([*messages], tokenize=False, add_generation_prompt=True)
    except Exception as error:  # of the template, which says in its own words what it does not take
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            found=f"a chat that the model's chat template does not take ({reason})",
            wanted="messages of its form, and a model with a chat template",
            remedy="leave --chat out, or choose another model",
        ) from error
    return str(text)


def _tokenizer_of(backbone: LoadedBackbone) -> PreTrainedTokenizerBase:
    if getattr(backbone.tokenizer, "backend_tokenizer", None) is None:
        raise InputError(
            found=f"{backbone.source} has no tokenizer that a device can read",
            wanted="a tokenizer.json",
            remedy="put it into the folder",
        )
    assert backbone.tokenizer is not None  # noqa: S101 - it has a backend
    return backbone.tokenizer


def _positions_of(backbone: LoadedBackbone) -> int:
    preprocessing = backbone.preprocessing
    assert isinstance(preprocessing, LanguagePreprocessing)  # noqa: S101 - chosen by its modality
    return preprocessing.max_positions
