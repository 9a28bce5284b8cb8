"""Tokenised training examples of language models: prompts in their template, and completions with their end token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedTokenizerBase

from edge_prompt.base.errors import InputError, TrainingDataError
from edge_prompt.formats.card import TEMPLATE_FIELD
from edge_prompt_export.modalities.language.backbone import LanguageBackbone
from edge_prompt_export.modalities.language.data import Chat, Pair
from edge_prompt_export.modalities.text.examples import TokenExamples
from edge_prompt_export.training.data import Example
from edge_prompt_export.training.examples import Batch
from edge_prompt_export.training.settings import TuneSettings
from edge_prompt_runtime.inputs.text.tokenizer import tokens_with_bos


class TokenizedCompletion(NamedTuple):
    """One tokenised example.

    Attributes:
        input_ids: The tokens of prompt and completion.
        completion: The number of tokens of the completion, its end token included.
        label: The index of its class; None if there are no classes.
    """

    input_ids: list[int]
    completion: int
    label: int | None = None


class CompletionExamples(TokenExamples[TokenizedCompletion]):
    """Tokenised prompts and completions.

    Rows are padded on the left, as on the device. All completions therefore end at the same position, and only the last
    positions need logits.

    Args:
        rows: The examples.
        label_tokens: The tokens of each class, with the end token; empty if there are no classes.

    Attributes:
        label_tokens: As given.
    """

    def __init__(self, rows: Sequence[TokenizedCompletion], label_tokens: Sequence[list[int]] = ()) -> None:
        super().__init__(rows)
        self.label_tokens = label_tokens

    def collate(self, rows: Sequence[TokenizedCompletion]) -> Batch:
        """Collate prompts and completions, without the last token, which has no successor to predict.

        Returns:
            A batch with `input_ids` and `attention_mask`, `[batch, sequence]`, and `scored [batch, longest completion]`
            bool, which marks the final positions that predict a token of the completion. The labels are these tokens,
            row by row.
        """
        request = pad_left([row.input_ids[:-1] for row in rows])
        longest = max(row.completion for row in rows)
        lengths = torch.tensor([row.completion for row in rows])
        request["scored"] = torch.arange(longest) >= longest - lengths[:, None]
        return Batch(request, torch.tensor([token for row in rows for token in row.input_ids[-row.completion :]]))


def pad_left(rows: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
    """Token rows as `input_ids` and `attention_mask`, `[batch, longest]`, padded on the left."""
    longest = max(map(len, rows))
    input_ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros_like(input_ids)
    for number, row in enumerate(rows):
        input_ids[number, longest - len(row) :] = torch.tensor(row)
        mask[number, longest - len(row) :] = 1
    return {"input_ids": input_ids, "attention_mask": mask}


def encode_completions(
    backbone: LanguageBackbone,
    examples: Sequence[Example | Pair | Chat],
    labels: tuple[str, ...],
    settings: TuneSettings,
) -> CompletionExamples:
    """Tokenise prompts and completions as on the device.

    Raises:
        InputError: The backbone has no `tokenizer.json` or no end-of-text token, its chat template cannot be used, or a
            template is given for chats.
        TrainingDataError: An example does not fit next to the prompt, or the chat template rejects a chat.
    """
    template, end = template_of(backbone, settings), end_token_of(backbone)
    tokenizer = backbone.require_tokenizer()
    if template != TEMPLATE_FIELD and examples and isinstance(examples[0], Chat):
        raise InputError(
            found="a template for the messages of chats",
            wanted="no template, since the model's chat template formats the messages",
            remedy="leave --chat, --system and --template out",
        )
    room = backbone.preprocessing.max_positions - (settings.virtual_tokens or 0)
    backend: Any = tokenizer.backend_tokenizer
    backend.no_truncation()  # its file stores the truncation and the padding that it was last used with
    backend.no_padding()

    def plain(text: str) -> list[int]:
        ids: list[int] = backend.encode(text, add_special_tokens=False).ids
        return ids

    def with_end(text: str) -> list[int]:
        return [*plain(text), end]

    rows = []
    for number, example in enumerate(examples, 1):
        text, completion, label = _parts(example, template, tokenizer, number)
        completion_ids = with_end(completion)
        ids = (plain(text) if isinstance(example, Chat) else tokens_with_bos(backend, text)) + completion_ids
        if len(ids) > room:
            raise TrainingDataError(
                found=f"example {number}: {len(ids)} tokens with its completion",
                wanted=f"at most {max(room, 0)}, which fit next to {settings.virtual_tokens} virtual tokens",
                remedy="shorten or remove the example",
            )
        rows.append(TokenizedCompletion(ids, len(completion_ids), labels.index(label) if label else None))
    return CompletionExamples(rows, [with_end(label) for label in labels])


def template_of(backbone: LanguageBackbone, settings: TuneSettings) -> str:
    """The template to store in the card: the given template, or the chat template with `{text}` as the user message.

    Raises:
        InputError: Both `chat` and `template` are set, or `system` without `chat`; or the model has no chat template,
            or one that does not contain the message exactly once.
    """
    if settings.chat and settings.template == TEMPLATE_FIELD:
        messages = [] if settings.system is None else [{"role": "system", "content": settings.system}]
        rendered = _rendered([*messages, {"role": "user", "content": TEMPLATE_FIELD}], backbone.require_tokenizer())
        if rendered.count(TEMPLATE_FIELD) == 1:
            return rendered
        raise InputError(
            found=f"a rendered chat that contains {TEMPLATE_FIELD} {rendered.count(TEMPLATE_FIELD)} times",
            wanted=f"{TEMPLATE_FIELD} exactly once",
            remedy=f"remove {TEMPLATE_FIELD} from --system, or pass --template instead of --chat",
        )
    if settings.chat or settings.system is not None:
        raise InputError(
            found="a system message without --chat" if not settings.chat else "both --chat and --template",
            wanted="either --template, or --chat with an optional --system",
            remedy="leave one of them out" if settings.chat else "pass --chat",
        )
    return settings.template


def end_token_of(backbone: LanguageBackbone) -> int:
    """The end-of-text token, which generation stops at; the first one if there are several.

    Raises:
        InputError: The model has no end-of-text token.
    """
    ends = backbone.module.model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    if not ends or ends[0] is None:
        raise InputError(
            found=f"{backbone.source} has no end-of-text token",
            wanted="eos_token_id in its generation_config.json",
            remedy="add eos_token_id to that file",
        )
    return int(ends[0])


class _Parts(NamedTuple):
    """An example in parts: the text before the completion, the completion, and the label (empty if it has none)."""

    text: str
    completion: str
    label: str = ""


def _parts(example: Example | Pair | Chat, template: str, tokenizer: PreTrainedTokenizerBase, number: int) -> _Parts:
    match example:
        case Example():
            return _Parts(template.replace(TEMPLATE_FIELD, example.text), example.label, example.label)
        case Pair():
            return _Parts(template.replace(TEMPLATE_FIELD, example.prompt), example.completion)
        case Chat():
            try:
                return _Parts(_rendered(example.messages, tokenizer), example.completion)
            except InputError as error:
                raise TrainingDataError(
                    found=f"example {number}: {error.found}",
                    wanted=error.wanted,
                    remedy="correct or remove the example",
                ) from error


def _rendered(messages: Sequence[Any], tokenizer: PreTrainedTokenizerBase) -> str:
    """Render messages with the model's chat template, up to the start of the assistant's message."""
    try:
        text = tokenizer.apply_chat_template([*messages], tokenize=False, add_generation_prompt=True)
    except Exception as error:  # templates raise errors of their own for messages that they reject
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            found=f"a chat that the model's chat template rejects ({reason})",
            wanted="a model with a chat template that accepts the messages",
            remedy="leave --chat out, or choose another model",
        ) from error
    return str(text)
