from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_prompt.base.errors import MissingFileError, TrainingDataError
from edge_prompt_export.modalities.language.data import Chat, Pair, read_language
from edge_prompt_export.modalities.registry import read_dataset

Written = Callable[[str, str], Path]

PAIR = {"prompt": "Say it.", "completion": "It."}
ASKED, SAID = {"role": "user", "content": "Say it."}, {"role": "assistant", "content": "It."}


def lines(*rows: object) -> str:
    return "\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows)


def test_pairs_and_chats_are_read(written: Written) -> None:
    pairs = written("pairs.jsonl", "\ufeff" + lines(PAIR, "", PAIR | {"id": 3}))
    assert read_language(pairs) == [Pair("Say it.", "It.")] * 2
    told = {"role": "system", "content": "Be kind.", "name": "x"}
    chats = written("chats.jsonl", lines({"messages": [told, ASKED, SAID, ASKED, SAID]}))
    wanted = ({"role": "system", "content": "Be kind."}, ASKED, SAID, ASKED)
    assert read_language(chats) == [Chat(wanted, "It.")]


def test_the_first_row_determines_the_form(written: Written) -> None:
    assert read_dataset(written("a.jsonl", lines(PAIR)), None).modality == "language"
    assert read_dataset(written("b.jsonl", lines({"messages": [ASKED, SAID]})), None).labels == ()
    labelled = lines(*({"text": "w1", "label": label, "prompt": "x"} for label in "ab"))
    assert read_dataset(written("c.jsonl", labelled), None).modality == "text"


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"prompt": "Say it."}, "no completion"),
        (PAIR | {"completion": None}, "no completion"),
        (PAIR | {"completion": ""}, "'completion' is empty"),
        (PAIR | {"completion": " \n"}, "'completion' is empty"),
        (PAIR | {"completion": 3}, "'completion' is int"),
        (PAIR | {"prompt": ""}, "'prompt' is empty"),
        ({"completion": "It."}, "no prompt"),
        (PAIR | {"messages": [ASKED, SAID]}, "the fields prompt, completion, messages in a file of prompt rows"),
        ({"messages": [ASKED, SAID]}, "the fields messages in a file of prompt rows"),
        ({"text": "w1", "label": "a"}, "the fields text, label in a file of prompt rows"),
        ({}, "the fields none in a file of prompt rows"),
        ("[1]", "a JSON list"),
        ('{"prompt": ', "invalid JSON"),
        ("[" * 100_000, "invalid JSON"),
    ],
)
def test_a_broken_row_is_named_by_its_line(row: object, found: str, written: Written) -> None:
    with pytest.raises(TrainingDataError, match=f"line 3: {found}"):
        read_language(written("train.jsonl", lines(PAIR, "", row)))


@pytest.mark.parametrize(
    ("messages", "found"),
    [
        ([ASKED, SAID, ASKED], "no completion"),
        ([SAID], "no completion"),
        ([], "no completion"),
        ("Say it.", "not a list of messages"),
        (["Say it."], "not a list of messages"),
        ([ASKED, SAID | {"content": ""}], "'content' is empty"),
        ([ASKED | {"content": [{"type": "image"}]}, SAID], "'content' is list"),
        ([{"role": "user"}, SAID], "no content"),
        ([ASKED | {"role": "wizard"}, SAID], "role 'wizard'"),
        ([{"content": "Say it."}, SAID], "role 'None'"),
    ],
)
def test_a_broken_chat_is_named_by_its_line(messages: object, found: str, written: Written) -> None:
    with pytest.raises(TrainingDataError, match=f"line 2: .*{found}"):
        read_language(written("train.jsonl", lines({"messages": [ASKED, SAID]}, {"messages": messages})))


def test_a_first_row_of_nothing_known_is_refused(written: Written) -> None:
    for content in ("[" * 100_000, "[]", "{}"):
        with pytest.raises(TrainingDataError, match="line 1"):
            read_dataset(written("train.jsonl", content), None)


def test_validation_of_another_form_is_refused(written: Written) -> None:
    with pytest.raises(TrainingDataError, match="the fields text, label"):
        read_dataset(written("a.jsonl", lines(PAIR)), written("b.jsonl", lines({"text": "w1", "label": "a"})))


def test_files_that_are_no_text_or_not_there_are_refused(tmp_path: Path, written: Written) -> None:
    path = tmp_path / "latin.jsonl"
    path.write_bytes((lines(PAIR) + '\n{"prompt": "café"}').encode("latin-1"))
    with pytest.raises(TrainingDataError, match="not UTF-8"):
        read_dataset(path, None)
    with pytest.raises(TrainingDataError, match="no example"):
        read_language(written("empty.jsonl", "\n"))
    with pytest.raises(MissingFileError):
        read_language(tmp_path / "missing.jsonl")
