from __future__ import annotations

import pytest
import torch

from edge_prompt.base.errors import InputError
from edge_prompt_export.modalities.text.backbone import TextBackbone
from edge_prompt_export.modalities.text.examples import TokenizedText
from edge_prompt_export.modalities.text.initialise import Vocabulary, prompt_of_tokens, token_source

ROWS = [TokenizedText([2, 10, 11, 3], 0), TokenizedText([2, 12, 3], 1)]


@pytest.fixture
def vocabulary(loaded: TextBackbone) -> Vocabulary:
    return Vocabulary(loaded.require_tokenizer(), loaded.preprocessing.vocab_size)


def test_training_text_starts_as_a_text_does_and_has_no_other_special_tokens(vocabulary: Vocabulary) -> None:
    ids = token_source("training-text", None, vocabulary, ROWS, 4, seed=0)
    assert ids[0] == 2
    assert sorted(ids[1:]) == [10, 11, 12]


def test_too_little_training_text_is_repeated(vocabulary: Vocabulary) -> None:
    ids = token_source("training-text", None, vocabulary, ROWS, 9, seed=0)
    assert len(ids) == 9
    assert set(ids[1:]) == {10, 11, 12}


def test_the_vocabulary_gives_no_special_tokens(vocabulary: Vocabulary) -> None:
    ids = token_source("vocabulary", None, vocabulary, ROWS, 500, seed=0)
    assert not set(ids) & set(vocabulary.tokenizer.all_special_ids)
    assert len(set(ids)) > 100


def test_a_text_is_repeated_until_it_is_long_enough(vocabulary: Vocabulary) -> None:
    first, second = vocabulary.tokenizer("w3 w4", add_special_tokens=False)["input_ids"]
    assert token_source("text", "w3 w4", vocabulary, ROWS, 5, seed=0) == [first, second, first, second, first]


@pytest.mark.parametrize(("init", "text"), [("text", None), ("text", " "), ("vocabulary", "w3")])
def test_a_text_and_the_choice_of_it_go_together(vocabulary: Vocabulary, init: str, text: str | None) -> None:
    with pytest.raises(InputError, match="both or neither of --init text and --init-text"):
        token_source(init, text, vocabulary, ROWS, 5, seed=0)


def test_a_soft_prompt_starts_as_embeddings(loaded: TextBackbone) -> None:
    prompt = prompt_of_tokens("soft", loaded.module, [10, 11])
    assert torch.equal(prompt, loaded.module.embedding.weight[[10, 11]])


def test_a_prefix_starts_as_past_tokens_would_be(loaded: TextBackbone) -> None:
    """Keys and values of the first layer are its projections of the embedded tokens."""
    prompt = prompt_of_tokens("prefix", loaded.module, [10, 11, 12])
    network = loaded.module.model
    with torch.no_grad():
        embedded = network.embeddings(input_ids=torch.tensor([[10, 11, 12]]))
        key = network.encoder.layer[0].attention.self.key(embedded).view(1, 3, 4, 8).transpose(1, 2)
    assert prompt.shape == (2, 2, 4, 3, 8)
    assert torch.allclose(prompt[0, 0], key[0], atol=1e-6)


def test_a_prefix_of_more_tokens_than_positions_is_refused(loaded: TextBackbone) -> None:
    with pytest.raises(InputError, match="64 positions"):
        prompt_of_tokens("prefix", loaded.module, [10] * 65)
