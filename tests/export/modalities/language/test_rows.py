from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_prompt.base.errors import InputError, TrainingDataError
from edge_prompt.formats.bundle import read_bundle
from edge_prompt_export.backbone.backbone import LoadedBackbone
from edge_prompt_export.modalities.language.data import Chat, Pair
from edge_prompt_export.modalities.language.rows import LanguageRow, LanguageRows, language_rows, template_of
from edge_prompt_export.modalities.registry import load_backbone
from edge_prompt_export.training.data import Example
from edge_prompt_export.training.settings import TuneSettings
from edge_prompt_runtime.inputs.chat.requests import Reader
from tests.tiny.language import POSITIONS, write_tiny_language

PLAIN = TuneSettings(kind="soft", virtual_tokens=4)
END = 0


@pytest.fixture(scope="module")
def reader(tiny_language_bundle: Path) -> Reader:
    """The device's own reader of requests."""
    return Reader(read_bundle(tiny_language_bundle))


def tokens(reader: Reader, text: str) -> list[int]:
    found: list[int] = reader.tokens_of_text(0, text).tolist()
    return found


def test_a_pair_is_its_prompt_in_the_template_and_its_completion_to_the_end(
    loaded_language: LoadedBackbone, reader: Reader
) -> None:
    settings = replace(PLAIN, template="<|user|>{text}!")
    (row,) = language_rows(loaded_language, [Pair("the oil", "price rose")], (), settings).rows
    said = tokens(reader, "price rose")
    assert row == LanguageRow([*tokens(reader, "<|user|>the oil!"), *said, END], len(said) + 1)


def test_the_text_of_a_label_is_the_completion(loaded_language: LoadedBackbone, reader: Reader) -> None:
    examples = [Example("price", "oil"), Example("meeting", "state")]
    rows = language_rows(loaded_language, examples, ("oil", "state"), PLAIN)
    labels = [[*tokens(reader, label), END] for label in ("oil", "state")]
    assert rows.label_tokens == labels
    assert rows.rows[1] == LanguageRow([*tokens(reader, "meeting"), *labels[1]], len(labels[1]), 1)


def test_a_chat_is_rendered_as_on_the_device(loaded_language: LoadedBackbone, reader: Reader) -> None:
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "the price?"}]
    (row,) = language_rows(loaded_language, [Chat(tuple(messages), "rose")], (), PLAIN).rows
    assert row.input_ids == [*reader.tokens_of_chat(messages).tolist(), *tokens(reader, "rose"), END]


def test_a_text_in_the_chat_template_is_the_message_of_a_user(loaded_language: LoadedBackbone, reader: Reader) -> None:
    asked = {"role": "user", "content": "the price?"}
    for settings, messages in (
        (replace(PLAIN, chat=True), [asked]),
        (replace(PLAIN, chat=True, system="Be kind."), [{"role": "system", "content": "Be kind."}, asked]),
    ):
        template = template_of(loaded_language, settings)
        assert template.endswith("<|user|>{text}<|end|><|assistant|>")
        (row,) = language_rows(loaded_language, [Pair("the price?", "rose")], (), settings).rows
        chat = reader.tokens_of_chat(messages).tolist()
        assert row.input_ids[: -row.completion] == chat == tokens(reader, template.replace("{text}", "the price?"))


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"chat": True, "template": "Q: {text}"}, "both --chat and --template"),
        ({"system": "Be kind."}, "a system message without --chat"),
        ({"chat": True, "system": "Say {text}."}, r"contains \{text\} 2 times"),
    ],
)
def test_templates_that_contradict_each_other_are_refused(
    changed: dict[str, Any], found: str, loaded_language: LoadedBackbone
) -> None:
    with pytest.raises(InputError, match=found):
        language_rows(loaded_language, [Pair("a", "b")], (), replace(PLAIN, **changed))


@pytest.mark.parametrize("changed", [{"chat": True}, {"template": "Q: {text}"}])
def test_chats_go_into_no_template(changed: dict[str, Any], loaded_language: LoadedBackbone) -> None:
    chat = Chat(({"role": "user", "content": "a"},), "b")
    with pytest.raises(InputError, match="a template for the messages of chats"):
        language_rows(loaded_language, [chat], (), replace(PLAIN, **changed))


def test_what_is_longer_than_the_context_is_refused(loaded_language: LoadedBackbone) -> None:
    fits = Pair("q" * (POSITIONS - 4 - 2), "z")
    assert len(language_rows(loaded_language, [fits], (), PLAIN).rows[0].input_ids) == POSITIONS - 4
    with pytest.raises(TrainingDataError, match=f"example 2: {POSITIONS - 3} tokens .* at most {POSITIONS - 4}"):
        language_rows(loaded_language, [fits, Pair(fits.prompt, "zz")], (), PLAIN)


def test_a_model_without_an_end_or_a_chat_template_is_refused(tmp_path: Path) -> None:
    write_tiny_language(tmp_path, eos_token_id=None)
    for name in ("generation_config.json", "chat_template.jinja"):
        (tmp_path / name).unlink()
    backbone = load_backbone(str(tmp_path))
    with pytest.raises(InputError, match="no end-of-text token"):
        language_rows(backbone, [Pair("a", "b")], (), PLAIN)
    with pytest.raises(InputError, match="chat template"):
        template_of(backbone, replace(PLAIN, chat=True))


def test_rows_are_padded_on_the_left() -> None:
    rows = LanguageRows([LanguageRow([5, 6, 7, 8, 0], 3), LanguageRow([9, 4, 0], 2)])
    (batch,) = rows.ordered(2)
    assert batch.request["input_ids"].tolist() == [[0, 0, 9, 4], [5, 6, 7, 8]]
    assert batch.request["attention_mask"].tolist() == [[0, 0, 1, 1], [1, 1, 1, 1]]
    assert batch.request["scored"].tolist() == [[False, True, True], [True, True, True]]
    assert batch.labels.tolist() == [4, 0, 7, 8, 0]
    assert np.array_equal(batch.request["scored"].sum(1), [2, 3])
