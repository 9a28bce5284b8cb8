from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_prompt import Bundle
from edge_prompt.base.errors import InputError, ManifestError
from edge_prompt.formats.bundle import TOKENIZER_NAME
from edge_prompt.formats.preprocessing import TextPreprocessing
from edge_prompt.storage.files import sha256_of
from edge_prompt_runtime import TruncationWarning
from edge_prompt_runtime.inputs.text.tokenizer import TextTokenizer, require_known_tokens, token_batch_of
from edge_prompt_runtime.tasks.deep_prompts import Folder
from edge_prompt_runtime.tasks.task import Task, base_task, load_task

CLS, SEP, FIRST_WORD = 2, 3, 5


def ids(*words: int) -> list[int]:
    return [CLS, *(FIRST_WORD + word for word in words), SEP]


def words(count: int, start: int = 0) -> str:
    return " ".join(f"w{start + number}" for number in range(count))


@pytest.fixture
def base(bundle: Bundle) -> Task:
    return base_task(bundle.manifest)


@pytest.fixture
def tokenizer(bundle: Bundle) -> TextTokenizer:
    return TextTokenizer(bundle)


def with_file(bundle: Bundle, folder: Path, content: str) -> Bundle:
    (folder / TOKENIZER_NAME).write_text(content, encoding="utf-8")
    files = {TOKENIZER_NAME: sha256_of(folder / TOKENIZER_NAME)}
    return replace(bundle, folder=folder, manifest=replace(bundle.manifest, files=files))


def test_rows_are_padded_to_the_longest(tokenizer: TextTokenizer, base: Task) -> None:
    batch = tokenizer.encode(["w0 w1 w2", "w9"], [base] * 2)
    np.testing.assert_array_equal(batch.input_ids, [ids(0, 1, 2), [*ids(9), 0, 0]])
    np.testing.assert_array_equal(batch.attention_mask, [[1] * 5, [1, 1, 1, 0, 0]])
    np.testing.assert_array_equal(batch.token_type_ids, np.zeros((2, 5)))
    assert {array.dtype for array in (batch.input_ids, batch.attention_mask, batch.token_type_ids)} == {np.dtype("i8")}
    assert batch.offsets == (((0, 0), (0, 2), (3, 5), (6, 8), (0, 0)), ((0, 0), (0, 2), (0, 0)))


def test_rows_are_padded_with_the_manifests_padding_token(bundle: Bundle, base: Task) -> None:
    assert isinstance(bundle.manifest.preprocessing, TextPreprocessing)
    preprocessing = replace(bundle.manifest.preprocessing, pad_token_id=77)
    tokenizer = TextTokenizer(replace(bundle, manifest=replace(bundle.manifest, preprocessing=preprocessing)))
    assert tokenizer.encode(["w0 w1", "w9"], [base] * 2).input_ids[1, 3] == 77


@pytest.mark.parametrize("kind", ["Fixed", "BatchLongest"])
def test_padding_and_truncation_that_the_file_asks_for_do_not_count(
    bundle: Bundle, base: Task, tmp_path: Path, kind: str
) -> None:
    value = json.loads((bundle.folder / TOKENIZER_NAME).read_text(encoding="utf-8"))
    strategy: object = {"Fixed": 30} if kind == "Fixed" else kind
    value["padding"] = {
        "strategy": strategy,
        "direction": "Left",
        "pad_to_multiple_of": 8,
        "pad_id": 1,
        "pad_type_id": 1,
        "pad_token": "[UNK]",
    }
    value["truncation"] = {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0}
    batch = TextTokenizer(with_file(bundle, tmp_path, json.dumps(value))).encode(["w0 w1 w2", "w9"], [base] * 2)
    np.testing.assert_array_equal(batch.input_ids, [ids(0, 1, 2), [*ids(9), 0, 0]])


@pytest.mark.parametrize("text", ["", " ", "\n\t ", "\u2003"])
def test_an_empty_text_is_refused_by_its_row(tokenizer: TextTokenizer, base: Task, text: str) -> None:
    with pytest.raises(InputError, match="text 1 is empty"):
        tokenizer.encode(["w0", text], [base] * 2)


@pytest.mark.parametrize("text", [None, 3, b"w0", ["w0"]])
def test_what_is_no_text_is_refused_by_its_row(tokenizer: TextTokenizer, base: Task, text: Any) -> None:
    with pytest.raises(InputError, match=f"text 0 is {type(text).__name__}"):
        tokenizer.encode([text], [base])


def test_a_text_that_is_no_unicode_is_refused(tokenizer: TextTokenizer, base: Task) -> None:
    broken = b"w0 \xff".decode(errors="surrogateescape")
    with pytest.raises(InputError, match="text 0 is not valid Unicode"):
        tokenizer.encode([broken], [base])


def test_the_longest_text_that_fits_is_not_truncated(tokenizer: TextTokenizer, base: Task) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tokenizer.encode([words(46)], [base]).input_ids.shape == (1, 48)


def test_a_longer_text_is_truncated_with_a_warning(tokenizer: TextTokenizer, base: Task) -> None:
    with pytest.warns(TruncationWarning, match=r"texts 1, 2 were truncated to 48 tokens"):
        cut = tokenizer.encode(["w0", words(47), words(100)], [base] * 3)
    whole = tokenizer.encode(["w0", words(46), words(46)], [base] * 3)
    np.testing.assert_array_equal(cut.input_ids, whole.input_ids)
    np.testing.assert_array_equal(cut.attention_mask, whole.attention_mask)


def test_a_warning_names_no_more_than_a_few_rows(tokenizer: TextTokenizer, base: Task) -> None:
    with pytest.warns(TruncationWarning, match=r"texts 0, 1, 2, 3, 4, 5, 6, 7, … were truncated"):
        tokenizer.encode([words(47)] * 20, [base] * 20)


def test_each_row_is_truncated_to_the_limit_of_its_task(
    tokenizer: TextTokenizer, base: Task, bundle: Bundle, make_prompt: Callable[..., Path]
) -> None:
    fold = Folder(bundle, "onnxruntime")
    long = load_task("long", make_prompt("long", length=40), None, bundle, base, fold)
    with pytest.warns(TruncationWarning, match=r"text 1 was truncated to 24 tokens"):
        batch = tokenizer.encode([words(30)] * 3, [base, long, base])
    np.testing.assert_array_equal(batch.attention_mask.sum(1), [32, 24, 32])


def test_the_template_of_a_task_is_put_around_its_text(tokenizer: TextTokenizer, base: Task) -> None:
    templated = replace(base, template="w7 {text} w8")
    batch = tokenizer.encode(["w0 w1", "w2"], [templated, base])
    np.testing.assert_array_equal(batch.input_ids, [ids(7, 0, 1, 8), [*ids(2), 0, 0, 0]])
    assert batch.offsets[0][1:5] == ((-3, -1), (0, 2), (3, 5), (6, 8))


def test_a_text_that_looks_like_a_template_is_text(tokenizer: TextTokenizer, base: Task) -> None:
    templated = replace(base, template="w7 {text}")
    found = tokenizer.encode(["{text} w1"], [templated])
    reference = tokenizer.encode(["w7 {text} w1"], [base])
    np.testing.assert_array_equal(found.input_ids, reference.input_ids)


def test_a_bundle_without_a_tokenizer_asks_for_arrays(bundle: Bundle) -> None:
    bare = replace(bundle, manifest=replace(bundle.manifest, files={}))
    with pytest.raises(InputError, match=r"no tokenizer\.json; wanted tokens instead of texts"):
        TextTokenizer(bare)


@pytest.mark.parametrize("content", ["", "{}", "no JSON", '{"version": "99"}'])
def test_a_tokenizer_that_cannot_be_read_is_refused(bundle: Bundle, base: Task, tmp_path: Path, content: str) -> None:
    tokenizer = TextTokenizer(with_file(bundle, tmp_path, content))
    with pytest.raises(ManifestError, match=r"tokenizer\.json cannot be read"):
        tokenizer.encode(["w0"], [base])


def test_an_altered_tokenizer_is_refused(bundle_copy: Path, bundle: Bundle) -> None:
    (bundle_copy / TOKENIZER_NAME).write_text("{}")
    with pytest.raises(ManifestError, match=r"tokenizer\.json is altered"):
        TextTokenizer(replace(bundle, folder=bundle_copy))


def test_given_arrays_become_a_batch() -> None:
    batch = token_batch_of({"input_ids": np.array([[2, 7, 3]], np.int32)})
    np.testing.assert_array_equal(batch.input_ids, np.array([[2, 7, 3]], np.int64), strict=True)
    np.testing.assert_array_equal(batch.attention_mask, np.array([[1, 1, 1]], np.int64), strict=True)
    np.testing.assert_array_equal(batch.token_type_ids, np.array([[0, 0, 0]], np.int64), strict=True)


def test_a_given_mask_and_types_are_taken() -> None:
    feeds = {
        "input_ids": np.array([[2, 7, 0]]),
        "attention_mask": np.array([[True, True, False]]),
        "token_type_ids": np.array([[0, 1, 0]], np.uint8),
    }
    batch = token_batch_of(feeds)
    np.testing.assert_array_equal(batch.attention_mask, np.array([[1, 1, 0]], np.int64), strict=True)
    np.testing.assert_array_equal(batch.token_type_ids, np.array([[0, 1, 0]], np.int64), strict=True)


def test_int64_arrays_are_taken_as_they_are() -> None:
    given_ids = np.array([[2, 7, 3]])
    assert token_batch_of({"input_ids": given_ids}).input_ids is given_ids


IDS = np.array([[2, 7, 3]])


@pytest.mark.parametrize(
    ("feeds", "found"),
    [
        ({}, r"the arrays are named \[\]"),
        ({"attention_mask": IDS}, r"the arrays are named \['attention_mask'\]"),
        ({"input_ids": IDS, "soft_prompt": IDS}, r"the arrays are named \['input_ids', 'soft_prompt'\]"),
        ({"input_ids": IDS[0]}, r"input_ids has shape \[3\]"),
        ({"input_ids": IDS[None]}, r"input_ids has shape \[1, 1, 3\]"),
        ({"input_ids": IDS[:0]}, r"input_ids has shape \[0, 3\]"),
        ({"input_ids": IDS[:, :0]}, r"input_ids has shape \[1, 0\]"),
        ({"input_ids": np.array(3)}, r"input_ids has shape \[\]"),
        ({"input_ids": IDS.astype(np.float32)}, "input_ids has shape .* and dtype float32"),
        ({"input_ids": IDS.astype(str)}, "input_ids has shape .* and dtype <U21"),
        ({"input_ids": IDS, "attention_mask": IDS[:, :2]}, r"attention_mask has shape \[1, 2\]"),
        ({"input_ids": IDS, "attention_mask": np.ones((1, 3))}, "attention_mask has shape .* and dtype float64"),
        ({"input_ids": IDS, "token_type_ids": np.zeros((2, 3), int)}, r"token_type_ids has shape \[2, 3\]"),
    ],
)
def test_arrays_that_are_no_tokenisation_are_refused(feeds: dict[str, Any], found: str) -> None:
    with pytest.raises(InputError, match=found):
        token_batch_of(feeds)


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("input_ids", [2, 200, 3]),
        ("input_ids", [2, -1, 3]),
        ("token_type_ids", [0, 2, 0]),
        ("token_type_ids", [0, -1, 0]),
        ("attention_mask", [1, 2, 1]),
        ("attention_mask", [1, -1, 1]),
        ("attention_mask", [0, 0, 0]),
    ],
)
def test_inputs_that_engines_would_misread_are_refused(name: str, row: list[int]) -> None:
    good = [2, 7, 3] if name == "input_ids" else [1, 1, 1]
    tokens = token_batch_of({"input_ids": np.array([[2, 7, 3]] * 2)} | {name: np.array([good, row])})
    with pytest.raises(InputError, match="bundle's own tokenizer"):
        require_known_tokens(tokens, TextPreprocessing(48, 64, 200, 2, 0, "mean", normalize=False))


def test_known_tokens_pass() -> None:
    feeds = {"input_ids": np.array([[2, 199, 3]]), "token_type_ids": np.array([[0, 1, 1]])}
    require_known_tokens(token_batch_of(feeds), TextPreprocessing(48, 64, 200, 2, 0, "mean", normalize=False))
