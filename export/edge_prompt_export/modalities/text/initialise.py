"""Initialise a prompt with the embeddings, or the keys and values, of real tokens, which tunes better than noise.

Lester et al. 2021 (https://arxiv.org/abs/2104.08691) initialise soft prompts from the vocabulary or from text. A
prefix is initialised with the keys and values that the network computes for a text, as in cartridges
(Eyuboglu et al. 2025, https://arxiv.org/abs/2506.06266).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from edge_prompt.base.errors import InputError
from edge_prompt_export.conditioning.attention import capture_keys_and_values
from edge_prompt_export.modalities.text.examples import HasTokens
from edge_prompt_export.modalities.text.network import ConditionedTextEncoder


class Vocabulary(NamedTuple):
    """The tokens of a backbone: its tokenizer, and the number of tokens that the network knows."""

    tokenizer: PreTrainedTokenizerBase
    size: int


def token_source(
    init: str, init_text: str | None, vocabulary: Vocabulary, rows: Sequence[HasTokens], count: int, seed: int
) -> list[int]:
    """The `count` token ids that a prompt is initialised from.

    Args:
        init: A key of `INITS`.
        init_text: The text for `text`.
        vocabulary: The tokens of the backbone.
        rows: The training rows.
        count: The number of tokens.
        seed: Random seed.

    Raises:
        InputError: `init` is unknown for texts, or only one of `init="text"` and `init_text` is given.
    """
    if init not in INITS:
        raise InputError(found=f"init {init!r} for texts", wanted=f"one of {', '.join(INITS)}", remedy="choose one")
    if (init == "text") != bool(init_text and init_text.strip()):
        raise InputError(
            found=f"init {init!r} {'without' if init == 'text' else 'with'} an init text",
            wanted="both or neither of --init text and --init-text",
            remedy="pass both",
        )
    return INITS[init](init_text or "", vocabulary, rows, count, random.Random(seed))


def prompt_of_tokens(kind: str, module: ConditionedTextEncoder, ids: list[int]) -> Tensor:
    """The prompt initialised from `ids`, with the axes of a prompt file.

    Raises:
        InputError: The prefix has more tokens than the network has positions.
    """
    return _INITIAL[kind](module, ids)


def _from_vocabulary(
    _text: str, vocabulary: Vocabulary, _rows: Sequence[HasTokens], count: int, rng: random.Random
) -> list[int]:
    """Random tokens of the vocabulary, without special tokens."""
    special = set(vocabulary.tokenizer.all_special_ids)
    words = [index for index in range(vocabulary.size) if index not in special]
    return [rng.choice(words) for _ in range(count)]


def _from_text(
    text: str, vocabulary: Vocabulary, _rows: Sequence[HasTokens], count: int, _rng: random.Random
) -> list[int]:
    """The tokens of a text, repeated until there are enough."""
    ids = vocabulary.tokenizer(text, add_special_tokens=False)["input_ids"]
    return [ids[index % len(ids)] for index in range(count)]


def _from_training_text(
    _text: str, vocabulary: Vocabulary, rows: Sequence[HasTokens], count: int, rng: random.Random
) -> list[int]:
    """The special token that texts start with (`[CLS]`), if any, then the tokens of training texts in random order."""
    special = set(vocabulary.tokenizer.all_special_ids)
    ids = [index for index in rows[0].input_ids[:1] if index in special]
    start = len(ids)
    for row in rng.sample(rows, len(rows)):
        ids += [index for index in row.input_ids if index not in special]
        if len(ids) >= count:
            return ids[:count]
    words = ids[start:]
    return (ids + [words[index % len(words)] for index in range(count)])[:count]


INITS: dict[str, Callable[[str, Vocabulary, Sequence[HasTokens], int, random.Random], list[int]]] = {
    "training-text": _from_training_text,
    "vocabulary": _from_vocabulary,
    "text": _from_text,
}


def _initial_soft(module: ConditionedTextEncoder, ids: list[int]) -> Tensor:
    with torch.no_grad():
        embedded: Tensor = module.embedding(torch.tensor([ids]))
    return embedded[0].clone()


def _initial_prefix(module: ConditionedTextEncoder, ids: list[int]) -> Tensor:
    if module.num_positions is not None and len(ids) > module.num_positions:
        raise InputError(
            found=f"a prefix of {len(ids)} virtual tokens",
            wanted=f"at most the {module.num_positions} positions of the backbone",
            remedy="tune a shorter prefix",
        )
    empty = module.example_inputs(batch=1, sequence=2, virtual_tokens=0, prefix_length=0)
    inputs = {name: empty[name] for name in ("soft_prompt", "prefix")}
    with torch.no_grad(), capture_keys_and_values() as captured:
        module(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), **inputs)
    return torch.stack(captured)[:, :, 0].clone()


_INITIAL: dict[str, Callable[[ConditionedTextEncoder, list[int]], Tensor]] = {
    "soft": _initial_soft,
    "prefix": _initial_prefix,
}
