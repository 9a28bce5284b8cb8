from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edge_prompt_runtime import Runtime, Trust
from edge_prompt_runtime.commands.sign import sign_bundle, sign_prompt
from edge_prompt_runtime.signing.signatures import Signer, key_signer
from tests.conftest import MakePrompt
from tests.keys import KeyPair, write_key


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")


@pytest.fixture
def key(tmp_path: Path) -> KeyPair:
    return write_key(tmp_path, "key")


@pytest.fixture
def signer(key: KeyPair) -> Signer:
    return key_signer(key.private)


@pytest.fixture
def trust(key: KeyPair) -> Trust:
    return Trust.key(key.public)


@pytest.fixture
def bundle(bundle_copy: Path, signer: Signer) -> Path:
    """A signed bundle to tamper with."""
    sign_bundle(bundle_copy, signer)
    return bundle_copy


@pytest.fixture
def runtime(bundle: Path, trust: Trust) -> Runtime:
    return Runtime(bundle, "onnxruntime", threads=1, trust=trust)


@pytest.fixture
def prompt(make_prompt: MakePrompt, signer: Signer) -> Path:
    """A signed prompt with card and head."""
    path = make_prompt("spam", classes=2)
    sign_prompt(path, signer)
    return path
