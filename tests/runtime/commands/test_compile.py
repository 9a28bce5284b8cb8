from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edge_prompt.base.errors import CardError, EdgePromptError
from edge_prompt.untrusted.npy import read_npz, write_npz
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.commands.compile_ import command
from edge_prompt_runtime.language.compiled_files import arrays_path, card_path
from edge_prompt_runtime.language.model import LanguageModel
from tests.conftest import MakePrompt


@pytest.fixture
def soft(make_prompt: MakePrompt, tiny_language_bundle: Path) -> Path:
    return make_prompt("soft", bundle=tiny_language_bundle)


@pytest.fixture
def compiled(soft: Path, tiny_language_bundle: Path, engine: str) -> Path:
    result = CliRunner().invoke(command, [str(tiny_language_bundle), str(soft), "--engine", engine])
    assert result.exit_code == 0, result.output
    assert f"5 virtual tokens for {engine}" in result.output
    return soft


def test_a_compiled_prompt_is_used_as_it_was_written(compiled: Path, tiny_language_bundle: Path, engine: str) -> None:
    runtime = Runtime(tiny_language_bundle, engine, threads=1)
    runtime.load("soft", compiled)
    assert runtime.load_all(compiled.parent) == ("soft",)
    arrays = read_npz(arrays_path(compiled, engine), frozenset("0123"))
    assert isinstance(runtime.network, LanguageModel)
    past = runtime.network.compiled.of(runtime.task("soft")).past
    for index, part in enumerate(past):
        np.testing.assert_array_equal(part, arrays[str(index)])
    card_path(compiled, engine).unlink()
    fresh = Runtime(tiny_language_bundle, engine, threads=1)
    fresh.load("soft", compiled)
    assert fresh.generate("the oil", "soft", max_new_tokens=9) == runtime.generate("the oil", "soft", max_new_tokens=9)


def test_it_belongs_to_one_engine(compiled: Path, tiny_language_bundle: Path, engine: str) -> None:
    other = {"onnxruntime": "openvino", "openvino": "onnxruntime"}[engine]
    Runtime(tiny_language_bundle, other, threads=1).load("soft", compiled)
    assert not card_path(compiled, other).exists()


def test_it_is_refused_once_the_prompt_has_changed(
    compiled: Path, make_prompt: MakePrompt, tiny_language_bundle: Path, engine: str
) -> None:
    changed = make_prompt("soft", bundle=tiny_language_bundle, length=6)
    assert changed == compiled
    with pytest.raises(CardError, match=r"prompt_sha256 .* is not that of the prompt.*Compile the prompt again"):
        Runtime(tiny_language_bundle, engine, threads=1).load("soft", compiled)


def test_it_is_refused_once_its_arrays_have_changed(compiled: Path, tiny_language_bundle: Path, engine: str) -> None:
    path = arrays_path(compiled, engine)
    write_npz(path, {name: array + 1 for name, array in read_npz(path, frozenset("0123")).items()})
    with pytest.raises(CardError, match=r"sha256 .* is not that of the arrays next to it"):
        Runtime(tiny_language_bundle, engine, threads=1).load("soft", compiled)


@pytest.mark.parametrize("name", ["graph_sha256", "fingerprint"])
def test_it_is_refused_once_graph_or_weights_have_changed(
    name: str, compiled: Path, tiny_language_bundle: Path, engine: str
) -> None:
    card = card_path(compiled, engine)
    card.write_text(json.dumps(json.loads(card.read_text()) | {name: "0" * 64}))
    with pytest.raises(CardError, match=f"{name} 000000000000… is not that of the"):
        Runtime(tiny_language_bundle, engine, threads=1).load("soft", compiled)


def test_arrays_of_other_sizes_are_refused(compiled: Path, tiny_language_bundle: Path, engine: str) -> None:
    from edge_prompt.storage.files import sha256_of

    path, card = arrays_path(compiled, engine), card_path(compiled, engine)
    write_npz(path, {name: array[:, :, 1:] for name, array in read_npz(path, frozenset("0123")).items()})
    card.write_text(json.dumps(json.loads(card.read_text()) | {"sha256": sha256_of(path)}))
    with pytest.raises(CardError, match=r"of shape \[1, 2, 4, 16\]; expected \[1, 2, 5, 16\]"):
        Runtime(tiny_language_bundle, engine, threads=1).load("soft", compiled)


def test_prompts_that_need_no_compiling_are_refused(
    make_prompt: MakePrompt, tiny_language_bundle: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    prefix = make_prompt("prefix", "prefix", bundle=tiny_language_bundle)
    result = CliRunner().invoke(command, [str(tiny_language_bundle), str(prefix)])
    assert isinstance(result.exception, EdgePromptError)
    assert "is a prefix; expected a soft prompt" in str(result.exception)
    other = shutil.copy(make_prompt("text"), tmp_path / "text.npy")
    result = CliRunner().invoke(command, [str(tiny_bundle), str(other)])
    assert "expected a causal language model" in str(result.exception)
