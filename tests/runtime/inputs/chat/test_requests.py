from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_prompt import read_bundle
from edge_prompt.base.errors import ChatTemplateError, InputError
from edge_prompt.formats.bundle import TOKENIZER_NAME, Bundle
from edge_prompt.storage.files import sha256_of
from edge_prompt_runtime.inputs.chat import ChatTemplate
from edge_prompt_runtime.inputs.chat.tokenizer import ChatTokenizer
from edge_prompt_runtime.inputs.requests import open_requests
from edge_prompt_runtime.tasks.task import base_task
from tests.tiny.language import LEFTOVER

CHAT = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "the oil price"}]


@pytest.fixture
def bundle(tiny_language_bundle: Path) -> Bundle:
    return read_bundle(tiny_language_bundle)


def without_templates(bundle: Bundle) -> Bundle:
    files = {
        name: sha256
        for name, sha256 in bundle.manifest.files.items()
        if name not in {"chat_template.jinja", "tokenizer_config.json"}
    }
    return replace(bundle, manifest=replace(bundle.manifest, files=files))


def test_a_chat_is_what_its_text_is_without_a_token_added(bundle: Bundle) -> None:
    tokenizer = ChatTokenizer(bundle)
    text = "<|system|>be brief<|end|><|user|>the oil price<|end|><|assistant|>"
    wanted = tokenizer.tokenizer.encode(text, add_special_tokens=False).ids
    np.testing.assert_array_equal(tokenizer.tokens_of_chat(CHAT), wanted)
    assert tokenizer.tokens_of_chat(CHAT).dtype == np.int64


def with_leftover(bundle: Bundle, folder: Path) -> Bundle:
    copy = Path(shutil.copytree(bundle.folder, folder))
    path = copy / TOKENIZER_NAME
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | LEFTOVER), encoding="utf-8")
    files = {**bundle.manifest.files, TOKENIZER_NAME: sha256_of(path)}
    return replace(bundle, folder=copy, manifest=replace(bundle.manifest, files=files))


@pytest.mark.parametrize("inputs", ["the oil price rose", CHAT, ["the", "the oil price rose after the cut"]])
def test_truncation_and_padding_stored_with_a_tokenizer_do_not_count(
    bundle: Bundle, tmp_path: Path, inputs: Any
) -> None:
    base = base_task(bundle.manifest)
    found = open_requests(with_leftover(bundle, tmp_path / "bundle")).read(inputs, base)
    for name, array in open_requests(bundle).read(inputs, base).arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)


@pytest.mark.parametrize(
    ("inputs", "count", "single"),
    [(CHAT, 1, True), ([CHAT, CHAT], 2, False), ([CHAT, "a text", [1, 2]], 3, False), ([[1, 2], CHAT], 2, False)],
)
def test_one_chat_and_several_requests_are_told_apart(bundle: Bundle, inputs: Any, count: int, single: bool) -> None:
    request = open_requests(bundle).read(inputs, base_task(bundle.manifest))
    assert (len(request.tasks), request.single) == (count, single)


def test_a_chat_to_a_model_without_a_template_is_refused(bundle: Bundle) -> None:
    with pytest.raises(InputError, match=r"the request is a chat, but .* has no chat template; expected a text"):
        ChatTokenizer(without_templates(bundle)).tokens_of_chat(CHAT)


def test_a_malformed_chat_is_refused(bundle: Bundle) -> None:
    with pytest.raises(InputError, match="message 1: 'content' is missing"):
        ChatTokenizer(bundle).tokens_of_chat([CHAT[0], {"role": "user"}])


def test_what_the_template_refuses_is_refused(bundle: Bundle) -> None:
    tokenizer = ChatTokenizer(bundle)
    tokenizer._chat_template = ChatTemplate("{{ raise_exception('only two turns') }}", {})
    with pytest.raises(ChatTemplateError, match="only two turns"):
        tokenizer.tokens_of_chat(CHAT)
