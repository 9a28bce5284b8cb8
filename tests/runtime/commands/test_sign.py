from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from edge_prompt.base.errors import CardError, TrustError
from edge_prompt.storage.files import read_json, sha256_of, write_json
from edge_prompt.untrusted.npy import read_npz, write_npz
from edge_prompt_runtime import Runtime, Trust
from edge_prompt_runtime.commands.compile_ import command as compile_command
from edge_prompt_runtime.language.compiled_files import arrays_path, card_path
from tests.conftest import MakePrompt
from tests.keys import KeyPair, write_certified_key, write_key

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def key(tmp_path: Path) -> KeyPair:
    return write_key(tmp_path, "key")


def test_signed_files_are_verified_and_run(
    command: Command, bundle_copy: Path, make_prompt: MakePrompt, key: KeyPair
) -> None:
    prompts = [make_prompt("spam", classes=2), make_prompt("tone", "prefix")]
    code, out, _ = command("sign", bundle_copy, *prompts, "--private-key", key.private)
    assert code == 0
    assert [line.rpartition("/")[2] for line in out.splitlines()] == ["model.sig", "spam.sig", "tone.sig"]
    options = ("--prompt", prompts[0], "--engine", "onnxruntime", "--public-key", key.public)
    code, out, err = command("verify", bundle_copy, *options)
    assert (code, err) == (0, "")
    assert f"all files match their digests, signed by the key {key.public}" in out
    assert f"fits this bundle, signed by the key {key.public}" in out
    assert command("run", bundle_copy, *options, "--text", "w1")[0] == 0
    prompts[0].with_suffix(".sig").unlink()
    for name, *more in (("verify",), ("run", "--text", "w1")):
        code, _, err = command(name, bundle_copy, *options, *more)
        assert code == 1
        assert err.startswith("Error: ")
        assert "spam.sig: no such file" in err


def test_tasks_that_are_not_signed_are_listed_as_refused(
    command: Command, bundle_copy: Path, make_prompt: MakePrompt, key: KeyPair
) -> None:
    signed, unsigned = make_prompt("ham"), make_prompt("spam")
    command("sign", bundle_copy, signed, "--private-key", key.private)
    arguments = ("tasks", unsigned.parent, "--public-key", key.public, "--json")
    code, out, _ = command(*arguments, "--bundle", bundle_copy)
    assert code == 1
    assert ["spam.sig: no such file" in json.loads(line)["problem"] for line in out.splitlines()] == [False, True]
    assert command(*arguments)[0] == 2


def test_a_bundle_that_another_signed_is_not_verified(
    command: Command, bundle_copy: Path, key: KeyPair, tmp_path: Path
) -> None:
    assert command("sign", bundle_copy, "--private-key", key.private)[0] == 0
    code, _, err = command("verify", bundle_copy, "--public-key", write_key(tmp_path, "other").public)
    assert code == 1
    assert "model.sig does not sign" in err


def test_a_language_model_generates_where_it_is_signed(
    command: Command, tiny_language_bundle: Path, tmp_path: Path, key: KeyPair
) -> None:
    bundle = shutil.copytree(tiny_language_bundle, tmp_path / "bundle")
    arguments = ("generate", bundle, "the oil", "--max-new-tokens", "2", "--public-key", key.public)
    assert command(*arguments)[0] == 1
    command("sign", bundle, "--private-key", key.private)
    assert command(*arguments)[0] == 0


def test_a_certificate_goes_along(command: Command, bundle_copy: Path, tmp_path: Path) -> None:
    ours = write_certified_key(tmp_path, "ours")
    key = ("--private-key", ours.private, "--certificate", ours.certificate, "--certificate-chain", ours.root)
    assert command("sign", bundle_copy, *key)[0] == 0
    code, out, _ = command("verify", bundle_copy, "--engine", "onnxruntime", "--certificate-chain", ours.root)
    assert code == 0
    assert "signed by a certificate that" in out


def test_the_password_of_a_key_comes_from_the_environment(
    command: Command, bundle_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = write_key(tmp_path, "locked", password="open sesame")
    assert command("sign", bundle_copy, "--private-key", key.private)[0] == 1
    monkeypatch.setenv("EDGE_PROMPT_KEY_PASSWORD", "open sesame")
    assert command("sign", bundle_copy, "--private-key", key.private)[0] == 0


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--private-key", "key", "--sigstore"),
        ("--sigstore", "--certificate", "crt"),
        ("--private-key", "key", "--certificate-chain", "crt"),
        ("--private-key", "key", "--certificate", "crt", "--password", "x"),
    ],
)
def test_one_way_to_sign_is_asked_for(command: Command, options: tuple[str, ...]) -> None:
    code, _, err = command("sign", "bundle", *options)
    assert code == 2
    assert "Error: pass" in err or "requires" in err


def test_one_is_trusted_at_a_time(command: Command) -> None:
    code, _, err = command("verify", "bundle", "--public-key", "key", "--identity", "someone")
    assert code == 2
    assert "pass only one of" in err
    assert command("verify", "bundle", "--identity", "someone")[0] == 1


def test_a_missing_key_is_named(command: Command, bundle_copy: Path) -> None:
    code, _, err = command("sign", bundle_copy, "--private-key", "nowhere.pem")
    assert code == 1
    assert "nowhere.pem cannot sign bundle" in err


@pytest.fixture
def compiled(make_prompt: MakePrompt, tiny_language_bundle: Path, engine: str) -> Path:
    path = make_prompt("soft", bundle=tiny_language_bundle)
    assert (
        CliRunner().invoke(compile_command, [str(tiny_language_bundle), str(path), "--engine", engine]).exit_code == 0
    )
    return path


def test_compiled_prompts_must_be_signed(
    command: Command, compiled: Path, tiny_language_bundle: Path, tmp_path: Path, engine: str, key: KeyPair
) -> None:
    bundle = shutil.copytree(tiny_language_bundle, tmp_path / "bundle")
    assert command("sign", bundle, compiled, "--private-key", key.private)[0] == 0
    runtime = Runtime(bundle, engine, threads=1, trust=Trust.key(key.public))
    runtime.load("soft", compiled)
    forge(compiled, engine)
    Runtime(bundle, engine, threads=1).load("soft", compiled)
    with pytest.raises(TrustError, match=rf"soft\.{engine}\.kv\.sig does not sign"):
        runtime.load("soft", compiled)
    card_path(compiled, engine).with_suffix(".sig").unlink()
    with pytest.raises(TrustError, match=rf"soft\.{engine}\.kv\.sig: no such file"):
        runtime.load("soft", compiled)
    card_path(compiled, engine).unlink()
    runtime.load("soft", compiled)


def forge(prompt: Path, engine: str) -> None:
    """Replace keys and values, and adapt the card."""
    arrays = read_npz(arrays_path(prompt, engine), frozenset("0123"))
    write_npz(arrays_path(prompt, engine), {name: array + np.float32(1) for name, array in arrays.items()})
    card = read_json(card_path(prompt, engine), CardError)
    write_json(card_path(prompt, engine), card | {"sha256": sha256_of(arrays_path(prompt, engine))})


@pytest.mark.parametrize("altered", ["prompt", "arrays"])
def test_prompts_compiled_from_another_are_not_signed(
    command: Command, compiled: Path, make_prompt: MakePrompt, tiny_language_bundle: Path, altered: str, key: KeyPair
) -> None:
    engine = next(engine for engine in ("onnxruntime", "openvino") if card_path(compiled, engine).exists())
    if altered == "prompt":
        make_prompt("soft", bundle=tiny_language_bundle, length=6)
    else:
        arrays_path(compiled, engine).write_bytes(b"altered")
    code, _, err = command("sign", compiled, "--private-key", key.private)
    assert code == 1
    assert "Compile the prompt again" in err
    assert not compiled.with_suffix(".sig").exists()
