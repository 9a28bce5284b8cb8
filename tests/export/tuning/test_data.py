from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_prompt.errors import MissingFileError, TrainingDataError
from edge_prompt_export.tuning.data import (
    Example,
    labels_of,
    read_examples,
    require_known_labels,
    split_validation,
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
        ('{"text": "a"', "no JSON"),
        ("[" * 100_000, "no JSON"),
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
    "content",
    ["text,label\na,b\nc\n", "text,label\na,b,c\n", "text,label\n,b\n", "text,topic\na,b\n", 'text,label\n"a,b\n'],
)
def test_a_broken_table_is_refused(written: Written, content: str) -> None:
    with pytest.raises(TrainingDataError, match="line"):
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


def test_the_split_keeps_every_example_once_and_every_class_on_both_sides() -> None:
    examples = [
        Example(str(number), label) for label, count in (("a", 50), ("b", 9), ("c", 2)) for number in range(count)
    ]
    training, validation = split_validation(examples, 0.1, seed=3)
    assert Counter(training + validation) == Counter(examples)
    assert Counter(example.label for example in validation) == {"a": 5, "b": 1, "c": 1}
    assert (training, validation) == split_validation(examples, 0.1, seed=3)


def test_a_class_of_one_example_stays_in_training() -> None:
    training, validation = split_validation([Example("x", "a"), Example("y", "b"), Example("z", "b")], 0.1, seed=0)
    assert Example("x", "a") in training
    assert [example.label for example in validation] == ["b"]
