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
from edge_prompt_runtime.inputs.requests import Request, Requests, open_requests
from edge_prompt_runtime.tasks.deep_prompts import DeepPromptFolder
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
def requests(bundle: Bundle) -> Requests:
    return open_requests(bundle)


def encode(requests: Requests, texts: list[Any], tasks: list[Task]) -> Request:
    return requests.read(texts, tasks)


def input_ids(request: Request) -> Any:
    return request.arrays["input_ids"]


def attention_mask(request: Request) -> Any:
    return request.arrays["attention_mask"]


def with_file(bundle: Bundle, folder: Path, content: str) -> Bundle:
    (folder / TOKENIZER_NAME).write_text(content, encoding="utf-8")
    files = {TOKENIZER_NAME: sha256_of(folder / TOKENIZER_NAME)}
    return replace(bundle, folder=folder, manifest=replace(bundle.manifest, files=files))


def test_rows_are_padded_to_the_longest(requests: Requests, base: Task) -> None:
    batch = encode(requests, ["w0 w1 w2", "w9"], [base] * 2)
    np.testing.assert_array_equal(input_ids(batch), [ids(0, 1, 2), [*ids(9), 0, 0]])
    np.testing.assert_array_equal(attention_mask(batch), [[1] * 5, [1, 1, 1, 0, 0]])
    np.testing.assert_array_equal(batch.arrays["token_type_ids"], np.zeros((2, 5)))
    assert {np.asarray(array).dtype for array in batch.arrays.values()} == {np.dtype("i8")}
    assert batch.offsets() == (((0, 0), (0, 2), (3, 5), (6, 8), (0, 0)), ((0, 0), (0, 2), (0, 0)))


def test_rows_are_padded_with_the_manifests_padding_token(bundle: Bundle, base: Task) -> None:
    assert isinstance(bundle.manifest.preprocessing, TextPreprocessing)
    preprocessing = replace(bundle.manifest.preprocessing, pad_token_id=77)
    requests = open_requests(replace(bundle, manifest=replace(bundle.manifest, preprocessing=preprocessing)))
    assert input_ids(encode(requests, ["w0 w1", "w9"], [base] * 2))[1, 3] == 77


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
    batch = encode(open_requests(with_file(bundle, tmp_path, json.dumps(value))), ["w0 w1 w2", "w9"], [base] * 2)
    np.testing.assert_array_equal(input_ids(batch), [ids(0, 1, 2), [*ids(9), 0, 0]])


@pytest.mark.parametrize("text", ["", " ", "\n\t ", "\u2003"])
def test_an_empty_text_is_refused_by_its_row(requests: Requests, base: Task, text: str) -> None:
    with pytest.raises(InputError, match="text 1 is empty"):
        encode(requests, ["w0", text], [base] * 2)


@pytest.mark.parametrize("text", [None, 3, b"w0", ["w0"]])
def test_what_is_no_text_is_refused_by_its_row(requests: Requests, base: Task, text: Any) -> None:
    with pytest.raises(InputError, match=f"text 0 is {type(text).__name__}"):
        encode(requests, [text], [base])


def test_a_text_that_is_no_unicode_is_refused(requests: Requests, base: Task) -> None:
    broken = b"w0 \xff".decode(errors="surrogateescape")
    with pytest.raises(InputError, match="text 0 is not valid Unicode"):
        encode(requests, [broken], [base])


def test_the_longest_text_that_fits_is_not_truncated(requests: Requests, base: Task) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert input_ids(encode(requests, [words(46)], [base])).shape == (1, 48)


def test_a_longer_text_is_truncated_with_a_warning(requests: Requests, base: Task) -> None:
    with pytest.warns(TruncationWarning, match=r"texts 1, 2 were truncated to 48 tokens"):
        cut = encode(requests, ["w0", words(47), words(100)], [base] * 3)
    whole = encode(requests, ["w0", words(46), words(46)], [base] * 3)
    np.testing.assert_array_equal(input_ids(cut), input_ids(whole))
    np.testing.assert_array_equal(attention_mask(cut), attention_mask(whole))


def test_a_warning_names_no_more_than_a_few_rows(requests: Requests, base: Task) -> None:
    with pytest.warns(TruncationWarning, match=r"texts 0, 1, 2, 3, 4, 5, 6, 7, … were truncated"):
        encode(requests, [words(47)] * 20, [base] * 20)


def test_each_row_is_truncated_to_the_limit_of_its_task(
    requests: Requests, base: Task, bundle: Bundle, make_prompt: Callable[..., Path]
) -> None:
    fold = DeepPromptFolder(bundle, "onnxruntime")
    long = load_task("long", make_prompt("long", length=40), None, bundle, base, fold)
    with pytest.warns(TruncationWarning, match=r"text 1 was truncated to 24 tokens"):
        batch = encode(requests, [words(30)] * 3, [base, long, base])
    np.testing.assert_array_equal(attention_mask(batch).sum(1), [32, 24, 32])


def test_the_template_of_a_task_is_put_around_its_text(requests: Requests, base: Task) -> None:
    templated = replace(base, template="w7 {text} w8")
    batch = encode(requests, ["w0 w1", "w2"], [templated, base])
    np.testing.assert_array_equal(input_ids(batch), [ids(7, 0, 1, 8), [*ids(2), 0, 0, 0]])
    assert batch.offsets()[0][1:5] == ((-3, -1), (0, 2), (3, 5), (6, 8))


def test_a_text_that_looks_like_a_template_is_text(requests: Requests, base: Task) -> None:
    templated = replace(base, template="w7 {text}")
    found = encode(requests, ["{text} w1"], [templated])
    reference = encode(requests, ["w7 {text} w1"], [base])
    np.testing.assert_array_equal(input_ids(found), input_ids(reference))


def test_a_bundle_without_a_tokenizer_asks_for_arrays(bundle: Bundle, base: Task) -> None:
    bare = replace(bundle, manifest=replace(bundle.manifest, files={}))
    with pytest.raises(InputError, match=r"no tokenizer\.json; expected tokens instead of texts"):
        encode(open_requests(bare), ["w0"], [base])


@pytest.mark.parametrize("content", ["", "{}", "no JSON", '{"version": "99"}'])
def test_a_tokenizer_that_cannot_be_read_is_refused(bundle: Bundle, base: Task, tmp_path: Path, content: str) -> None:
    requests = open_requests(with_file(bundle, tmp_path, content))
    with pytest.raises(ManifestError, match=r"tokenizer\.json cannot be read"):
        encode(requests, ["w0"], [base])


def test_an_altered_tokenizer_is_refused(bundle_copy: Path, bundle: Bundle, base: Task) -> None:
    (bundle_copy / TOKENIZER_NAME).write_text("{}")
    with pytest.raises(ManifestError, match=r"tokenizer\.json is altered"):
        encode(open_requests(replace(bundle, folder=bundle_copy)), ["w0"], [base])
