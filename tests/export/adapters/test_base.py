from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge_prompt.base.errors import AdapterError
from edge_prompt.formats.manifest import Backbone
from edge_prompt_export.adapters.adapter_files import Adapter, AdapterConfig
from edge_prompt_export.adapters.base import FINGERPRINT_KEY, base_name, require_base
from edge_prompt_export.adapters.tensors import TensorFile


def adapter(base: str, revision: str = "", **metadata: str) -> Adapter:
    config = AdapterConfig("adapter_config.json", "PROMPT_TUNING", "", base, revision, "", 5, 32, 2, 4, 1)
    return Adapter(config, TensorFile(Path("x.safetensors"), {}, metadata))


def backbone(source: str, revision: str | None = None) -> Backbone:
    return Backbone(source, revision, "bert", "BertModel", "feature-extraction", 1, 32, "a" * 64, ())


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("gpt2", "gpt2"),
        ("openai-community/GPT2", "gpt2"),
        ("/models/gpt2/", "gpt2"),
        ("C:\\models\\gpt2", "gpt2"),
        ("/root/.cache/huggingface/hub/models--openai-community--gpt2/snapshots/607a30d783dfa6/", "gpt2"),
        ("models--gpt2/snapshots/607a30d783dfa6", "gpt2"),
        ("", ""),
        ("/", ""),
    ],
)
def test_the_name_of_a_base_is_the_last_part(name: str, base: str) -> None:
    assert base_name(name) == base


@pytest.mark.parametrize(
    ("given", "source", "revision"),
    [
        (adapter("org/Name"), "name", None),
        (adapter("/elsewhere/name"), "org/name", None),
        (adapter(""), "org/name", None),
        (adapter("org/name", "main"), "org/name", None),
        (adapter("org/name", "v1"), "org/name", "v1"),
        (adapter("name", "v1"), "name", None),
        (adapter("name"), "org/name", "v1"),
        (adapter("name", **{FINGERPRINT_KEY: "a" * 64}), "org/name", None),
    ],
)
def test_one_base_under_the_names_it_may_have_is_taken(given: Adapter, source: str, revision: str | None) -> None:
    require_base(given, backbone(source, revision), renamed=False)  # raises nothing


@pytest.mark.parametrize(
    ("given", "revision", "found"),
    [
        (adapter("org/other"), None, "an adapter for 'org/other'; expected one for 'org/name'"),
        (adapter("org/name-large"), None, "an adapter for 'org/name-large'"),
        (adapter("org/name", "v2"), None, "revision 'v2' of 'org/name'; expected revision 'main'"),
        (adapter("org/name", "v2"), "v1", "expected revision 'v1'"),
    ],
)
def test_another_base_is_refused_unless_declared_the_same(given: Adapter, revision: str | None, found: str) -> None:
    with pytest.raises(AdapterError) as caught:
        require_base(given, backbone("org/name", revision), renamed=False)
    assert found in str(caught.value)
    assert "--base-renamed" in str(caught.value)
    require_base(given, backbone("org/name", revision), renamed=True)


@pytest.mark.parametrize("renamed", [False, True])
def test_another_fingerprint_is_always_refused(renamed: Any) -> None:
    with pytest.raises(AdapterError, match="fingerprint bbbbbbbbbbbb…; expected aaaaaaaaaaaa…"):
        require_base(adapter("org/name", **{FINGERPRINT_KEY: "b" * 64}), backbone("org/name"), renamed=renamed)
