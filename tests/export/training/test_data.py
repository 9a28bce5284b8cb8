from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from edge_prompt.base.errors import MissingFileError, TrainingDataError
from edge_prompt_export.training.data import (
    Example,
    labels_of,
    read_examples,
    require_known_labels,
)

Written = Callable[[str, str], Path]
WANTED = [Example("a film, fine", "good"), Example("tedious", "bad")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"text": "a film, fine", "label": "good"}\n\n{"text": "tedious", "label": "bad", "id": 3}\n'),
        ("a.csv", 'label,text\ngood,"a film, fine"\nbad,tedious\n'),
        ("a.CSV", '\ufefflabel,text\r\ngood,"a film, fine"\r\nbad,tedious\r\n'),
        ("a.tsv", "text\tlabel\na film, fine\tgood\ntedious\tbad\n"),
    ],
)
def test_every_form_gives_the_same_examples(written: Written, name: str, content: str) -> None:
    assert read_examples(written(name, content)) == WANTED


def test_labels_may_be_integers_and_booleans(written: Written) -> None:
    content = '{"text": "a", "label": 0}\n{"text": "b", "label": 1}\n{"text": "c", "label": true}\n'
    assert [example.label for example in read_examples(written("a.jsonl", content))] == ["0", "1", "True"]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('{"text": "a"', "invalid JSON"),
        ("[" * 100_000, "invalid JSON"),
        ('["a", "b"]', "a JSON list"),
        ('{"text": "a"}', "no label"),
        ('{"label": "a"}', "no text"),
        ("{}", "no text and no label"),
        ('{"text": "  ", "label": "a"}', "'text' is empty"),
        ('{"text": 3, "label": "a"}', "'text' is int"),
        ('{"text": "a", "label": 1.5}', "'label' is float"),
        ('{"text": "a", "label": ["b"]}', "'label' is list"),
        ('{"text": ["a"], "label": "b"}', "'text' is list"),
        ('{"text": "a", "label": null}', "no label"),
    ],
)
def test_a_broken_line_is_named_by_its_number(written: Written, line: str, found: str) -> None:
    path = written("a.jsonl", f'{{"text": "a", "label": "b"}}\n{line}\n')
    with pytest.raises(TrainingDataError, match="line 2") as error:
        read_examples(path)
    assert found in str(error.value)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("text,label\na,b\nc\n", 3),
        ("text,label\na,b,c\n", 2),
        ("text,label\n,b\n", 2),
        ("text,topic\na,b\n", 2),
        ('text,label\n"a,b\n', 2),
        ('text,label\na,b\n\n"a"c,b\n', 4),
    ],
)
def test_a_broken_table_is_refused(written: Written, content: str, line: int) -> None:
    with pytest.raises(TrainingDataError, match=f"line {line}:"):
        read_examples(written("a.csv", content))


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_a_file_without_examples_is_refused(written: Written, content: str) -> None:
    with pytest.raises(TrainingDataError, match="no example"):
        read_examples(written("a.jsonl", content))


def test_another_suffix_is_refused(written: Written) -> None:
    with pytest.raises(TrainingDataError, match=r"\.parquet"):
        read_examples(written("a.parquet", ""))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        read_examples(tmp_path / "a.jsonl")


def test_another_encoding_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes('{"text": "später", "label": "a"}'.encode("latin1"))
    with pytest.raises(TrainingDataError, match="UTF-8"):
        read_examples(path)


def test_one_class_is_refused() -> None:
    with pytest.raises(TrainingDataError, match="one class, 'a'"):
        labels_of([Example("x", "a"), Example("y", "a")], Path("train.csv"))


def test_an_unknown_class_is_refused() -> None:
    with pytest.raises(TrainingDataError, match="'c'"):
        require_known_labels([Example("x", "a"), Example("y", "c")], ("a", "b"), Path("validation.csv"))
