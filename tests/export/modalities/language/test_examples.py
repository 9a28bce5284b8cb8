from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_prompt.base.errors import InputError, TrainingDataError
from edge_prompt.formats.bundle import read_bundle
from edge_prompt_export.modalities.language.backbone import LanguageBackbone
from edge_prompt_export.modalities.language.data import Chat, Pair
from edge_prompt_export.modalities.language.examples import (
    CompletionExamples,
    TokenizedCompletion,
    encode_completions,
    template_of,
)
from edge_prompt_export.modalities.registry import load_backbone
from edge_prompt_export.training.data import Example
from edge_prompt_export.training.settings import TuneSettings
from edge_prompt_runtime.inputs.chat.tokenizer import ChatTokenizer
from tests.tiny.language import LEFTOVER, POSITIONS, write_tiny_language

PLAIN = TuneSettings(kind="soft", virtual_tokens=4)
END = 0


@pytest.fixture(scope="module")
def tokenizer(tiny_language_bundle: Path) -> ChatTokenizer:
    """The device's own tokenizer of requests."""
    return ChatTokenizer(read_bundle(tiny_language_bundle))


def tokens(tokenizer: ChatTokenizer, text: str) -> list[int]:
    found: list[int] = tokenizer.tokens_of_text(0, text).tolist()
    return found


def test_a_pair_is_its_prompt_in_the_template_and_its_completion_to_the_end(
    loaded_language: LanguageBackbone, tokenizer: ChatTokenizer
) -> None:
    settings = replace(PLAIN, template="<|user|>{text}!")
    (row,) = encode_completions(loaded_language, [Pair("the oil", "price rose")], (), settings).rows
    said = tokens(tokenizer, "price rose")
    assert row == TokenizedCompletion([*tokens(tokenizer, "<|user|>the oil!"), *said, END], len(said) + 1)


def test_truncation_and_padding_stored_with_a_tokenizer_do_not_count(tiny_language: Path, tmp_path: Path) -> None:
    examples = [Pair("the oil price rose after the cut", "rose again")]
    plain = load_backbone(str(tiny_language))
    checkpoint = Path(shutil.copytree(tiny_language, tmp_path / "network"))
    path = checkpoint / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | LEFTOVER), encoding="utf-8")
    used = load_backbone(str(checkpoint))
    assert isinstance(plain, LanguageBackbone)
    assert isinstance(used, LanguageBackbone)
    assert encode_completions(used, examples, (), PLAIN).rows == encode_completions(plain, examples, (), PLAIN).rows
    labels, named = ("the price", "the cut in the oil price"), [Example("the oil", "the price")]
    assert encode_completions(used, named, labels, PLAIN).label_tokens == (
        encode_completions(plain, named, labels, PLAIN).label_tokens
    )


def test_the_text_of_a_label_is_the_completion(loaded_language: LanguageBackbone, tokenizer: ChatTokenizer) -> None:
    examples = [Example("price", "oil"), Example("meeting", "state")]
    rows = encode_completions(loaded_language, examples, ("oil", "state"), PLAIN)
    labels = [[*tokens(tokenizer, label), END] for label in ("oil", "state")]
    assert rows.label_tokens == labels
    assert rows.rows[1] == TokenizedCompletion([*tokens(tokenizer, "meeting"), *labels[1]], len(labels[1]), 1)


def test_a_chat_is_rendered_as_on_the_device(loaded_language: LanguageBackbone, tokenizer: ChatTokenizer) -> None:
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "the price?"}]
    (row,) = encode_completions(loaded_language, [Chat(tuple(messages), "rose")], (), PLAIN).rows
    assert row.input_ids == [*tokenizer.tokens_of_chat(messages).tolist(), *tokens(tokenizer, "rose"), END]


def test_a_text_in_the_chat_template_is_the_message_of_a_user(
    loaded_language: LanguageBackbone, tokenizer: ChatTokenizer
) -> None:
    asked = {"role": "user", "content": "the price?"}
    for settings, messages in (
        (replace(PLAIN, chat=True), [asked]),
        (replace(PLAIN, chat=True, system="Be kind."), [{"role": "system", "content": "Be kind."}, asked]),
    ):
        template = template_of(loaded_language, settings)
        assert template.endswith("<|user|>{text}<|end|><|assistant|>")
        (row,) = encode_completions(loaded_language, [Pair("the price?", "rose")], (), settings).rows
        chat = tokenizer.tokens_of_chat(messages).tolist()
        assert row.input_ids[: -row.completion] == chat == tokens(tokenizer, template.replace("{text}", "the price?"))


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"chat": True, "template": "Q: {text}"}, "both --chat and --template"),
        ({"system": "Be kind."}, "a system message without --chat"),
        ({"chat": True, "system": "Say {text}."}, r"contains \{text\} 2 times"),
    ],
)
def test_templates_that_contradict_each_other_are_refused(
    changed: dict[str, Any], found: str, loaded_language: LanguageBackbone
) -> None:
    with pytest.raises(InputError, match=found):
        encode_completions(loaded_language, [Pair("a", "b")], (), replace(PLAIN, **changed))


@pytest.mark.parametrize("changed", [{"chat": True}, {"template": "Q: {text}"}])
def test_chats_go_into_no_template(changed: dict[str, Any], loaded_language: LanguageBackbone) -> None:
    chat = Chat(({"role": "user", "content": "a"},), "b")
    with pytest.raises(InputError, match="a template for the messages of chats"):
        encode_completions(loaded_language, [chat], (), replace(PLAIN, **changed))


def test_what_is_longer_than_the_context_is_refused(loaded_language: LanguageBackbone) -> None:
    fits = Pair("q" * (POSITIONS - 4 - 2), "z")
    assert len(encode_completions(loaded_language, [fits], (), PLAIN).rows[0].input_ids) == POSITIONS - 4
    with pytest.raises(TrainingDataError, match=f"example 2: {POSITIONS - 3} tokens .* at most {POSITIONS - 4}"):
        encode_completions(loaded_language, [fits, Pair(fits.prompt, "zz")], (), PLAIN)


def test_a_model_without_an_end_or_a_chat_template_is_refused(tmp_path: Path) -> None:
    write_tiny_language(tmp_path, eos_token_id=None)
    for name in ("generation_config.json", "chat_template.jinja"):
        (tmp_path / name).unlink()
    backbone = load_backbone(str(tmp_path))
    assert isinstance(backbone, LanguageBackbone)
    with pytest.raises(InputError, match="no end-of-text token"):
        encode_completions(backbone, [Pair("a", "b")], (), PLAIN)
    with pytest.raises(InputError, match="chat template"):
        template_of(backbone, replace(PLAIN, chat=True))


def test_rows_are_padded_on_the_left() -> None:
    rows = CompletionExamples([TokenizedCompletion([5, 6, 7, 8, 0], 3), TokenizedCompletion([9, 4, 0], 2)])
    (batch,) = rows.ordered(2)
    assert batch.request["input_ids"].tolist() == [[0, 0, 9, 4], [5, 6, 7, 8]]
    assert batch.request["attention_mask"].tolist() == [[0, 0, 1, 1], [1, 1, 1, 1]]
    assert batch.request["scored"].tolist() == [[False, True, True], [True, True, True]]
    assert batch.labels.tolist() == [4, 0, 7, 8, 0]
    assert np.array_equal(batch.request["scored"].sum(1), [2, 3])
