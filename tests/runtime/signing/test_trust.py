from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from model_signing import verifying

from edge_prompt import EdgePromptError, read_bundle, read_prompt
from edge_prompt.base.errors import InputError, ManifestError, TrustError
from edge_prompt.formats.manifest import MANIFEST_NAME
from edge_prompt.formats.prompt import write_prompt
from edge_prompt.formats.signed_files import signature_path
from edge_prompt.storage.files import sha256_of
from edge_prompt.untrusted.npy import write_npy
from edge_prompt_runtime import Runtime, Trust
from edge_prompt_runtime.commands.sign import sign_bundle, sign_prompt
from edge_prompt_runtime.signing.signatures import Signer, key_signer
from edge_prompt_runtime.signing.trust import read_trusted_bundle
from edge_prompt_runtime.tasks.store import Refreshed
from tests.conftest import MakePrompt
from tests.keys import KeyPair, write_key
from tests.runtime.signing.conftest import edit_json


def test_signed_files_are_served(runtime: Runtime, prompt: Path) -> None:
    runtime.load("mail", prompt)
    assert runtime.classify("w1", task="mail").label in {"spam_0", "spam_1"}


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()], ids=lambda curve: curve.name)
def test_every_supported_curve_is_accepted(bundle_copy: Path, tmp_path: Path, curve: ec.EllipticCurve) -> None:
    key = write_key(tmp_path, "other", curve)
    sign_bundle(bundle_copy, key_signer(key.private))
    read_trusted_bundle(bundle_copy, Trust.key(key.public))  # raises nothing


def test_a_curve_that_model_signing_does_not_take_is_refused(tmp_path: Path, bundle_copy: Path) -> None:
    key = write_key(tmp_path, "bitcoin", ec.SECP256K1())
    with pytest.raises(InputError, match=r"bitcoin cannot sign bundle .*secp256k1"):
        sign_bundle(bundle_copy, key_signer(key.private))
    with pytest.raises(TrustError, match="secp256k1"):
        read_trusted_bundle(bundle_copy, Trust.key(key.public))


def test_an_encrypted_key_needs_its_password(tmp_path: Path, bundle_copy: Path) -> None:
    key = write_key(tmp_path, "other", password="open sesame")
    for password in (None, "close sesame"):
        with pytest.raises(InputError, match="other cannot sign bundle"):
            sign_bundle(bundle_copy, key_signer(key.private, password))
    assert not (bundle_copy / "model.sig").exists()
    sign_bundle(bundle_copy, key_signer(key.private, "open sesame"))
    read_trusted_bundle(bundle_copy, Trust.key(key.public))


def test_without_trust_signatures_do_not_matter(bundle_copy: Path, make_prompt: MakePrompt) -> None:
    (bundle_copy / "model.sig").write_text("nonsense")
    Runtime(bundle_copy, "onnxruntime", threads=1).load("x", make_prompt("x"))  # raises nothing


def test_an_unsigned_bundle_is_refused(bundle_copy: Path, trust: Trust) -> None:
    with pytest.raises(TrustError, match=r"model\.sig: no such file, so .* not signed; expected a signature by"):
        Runtime(bundle_copy, "onnxruntime", trust=trust)


def test_an_unsigned_prompt_is_refused(runtime: Runtime, make_prompt: MakePrompt) -> None:
    with pytest.raises(TrustError, match=r"spam\.sig: no such file, so spam\.json and 2 more are not signed"):
        runtime.load("spam", make_prompt("spam", classes=2))
    assert runtime.tasks == ()


def test_another_key_is_not_trusted(bundle: Path, prompt: Path, runtime: Runtime, tmp_path: Path) -> None:
    other = write_key(tmp_path, "other")
    with pytest.raises(TrustError, match="does not sign"):
        Runtime(bundle, trust=Trust.key(other.public))
    sign_prompt(prompt, key_signer(other.private))
    with pytest.raises(TrustError, match=r"spam\.sig does not sign spam\.json and 2 more \(Key mismatch"):
        runtime.load("spam", prompt)


def test_a_signature_that_names_the_key_and_was_not_made_by_it_is_refused(
    prompt: Path, runtime: Runtime, tmp_path: Path
) -> None:
    signature = signature_path(prompt)
    own = json.loads(signature.read_text("utf-8"))
    sign_prompt(prompt, key_signer(write_key(tmp_path, "other").private))
    edit_json(signature, verificationMaterial=own["verificationMaterial"])
    with pytest.raises(TrustError, match=r"InvalidSignature"):
        runtime.load("spam", prompt)


@pytest.mark.parametrize("suffix", [".npy", ".json", ".head.npz"])
def test_an_altered_file_of_a_prompt_is_refused(prompt: Path, runtime: Runtime, suffix: str) -> None:
    file = prompt.with_name(prompt.stem + suffix)
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(EdgePromptError):
        runtime.load("spam", prompt)


def test_a_prompt_whose_card_was_made_to_fit_is_refused(prompt: Path, runtime: Runtime) -> None:
    write_npy(prompt, read_prompt(prompt).array + np.float32(1))
    edit_json(prompt.with_suffix(".json"), sha256=sha256_of(prompt))
    read_prompt(prompt)
    with pytest.raises(TrustError, match=r"\(altered: spam\.json, spam\.npy\)"):
        runtime.load("spam", prompt)


@pytest.mark.parametrize("change", [{"labels": ["yes", "no"]}, {"template": "Ignore {text}"}, {"head": None}])
def test_a_card_that_says_something_else_is_refused(prompt: Path, runtime: Runtime, change: dict[str, Any]) -> None:
    edit_json(prompt.with_suffix(".json"), **change)
    with pytest.raises(EdgePromptError):
        runtime.load("spam", prompt)


def test_a_prompt_that_lost_its_card_is_refused(prompt: Path, runtime: Runtime) -> None:
    prompt.with_suffix(".json").unlink()
    with pytest.raises(TrustError, match=r"Missing files"):
        runtime.load("spam", prompt, "soft")


def test_a_bare_prompt_is_signed_as_such(tmp_path: Path, signer: Signer, runtime: Runtime) -> None:
    path = tmp_path / "bare.npy"
    write_npy(path, np.ones((3, 32), np.float32))
    sign_prompt(path, signer)
    runtime.load("bare", path)
    fingerprint = runtime.bundle.manifest.backbone.fingerprint
    write_prompt(path, np.ones((3, 32), np.float32), "soft", fingerprint, template="Ignore {text}")
    with pytest.raises(TrustError, match=r"Extra files found.*bare\.json"):
        runtime.load("bare", path)


def test_a_signed_prompt_under_another_name_is_refused(prompt: Path, runtime: Runtime) -> None:
    for suffix in (".npy", ".json", ".head.npz", ".sig"):
        shutil.copy(prompt.with_name(prompt.stem + suffix), prompt.with_name(f"ham{suffix}"))
    with pytest.raises(TrustError, match=r"Extra files found.*ham\.json, ham\.npy"):
        runtime.load("ham", prompt.with_name("ham.npy"))


def test_the_signature_of_another_prompt_is_refused(
    prompt: Path, runtime: Runtime, make_prompt: MakePrompt, signer: Signer
) -> None:
    other = make_prompt("ham", classes=2)
    sign_prompt(other, signer)
    shutil.copy(signature_path(other), signature_path(prompt))
    with pytest.raises(TrustError, match=r"spam\.sig does not sign spam\.json"):
        runtime.load("spam", prompt)


def test_a_refused_prompt_leaves_the_old_one(prompt: Path, runtime: Runtime) -> None:
    runtime.load("spam", prompt)
    task = runtime.task("spam")
    signature_path(prompt).unlink()
    with pytest.raises(TrustError):
        runtime.load("spam", prompt)
    assert runtime.task("spam") is task


def test_a_signature_that_is_gone_or_another_is_noticed_when_folders_are_looked_at_again(
    bundle: Path, prompt: Path, trust: Trust, tmp_path: Path
) -> None:
    runtime = Runtime(bundle, "onnxruntime", threads=1, prompts=prompt.parent, trust=trust)
    runtime.task("spam")
    assert runtime.refresh() == Refreshed()
    sign_prompt(prompt, key_signer(write_key(tmp_path, "other").private))
    assert "Key mismatch" in runtime.refresh().refused["spam"]
    signature_path(prompt).unlink()
    assert "not signed" in runtime.refresh().refused["spam"]


def test_prompts_of_folders_must_be_signed(
    prompt: Path, bundle: Path, trust: Trust, make_prompt: MakePrompt, signer: Signer
) -> None:
    unsigned = make_prompt("ham", classes=2)
    runtime = Runtime(bundle, "onnxruntime", threads=1, prompts=prompt.parent, trust=trust)
    assert runtime.classify("w1", task="spam").label.startswith("spam")
    with pytest.raises(TrustError):
        runtime.classify("w1", task="ham")
    sign_prompt(unsigned, signer)
    assert runtime.classify("w1", task="ham").label.startswith("ham")


def test_a_replaced_prompt_is_taken_up_once_it_is_signed(
    prompt: Path, bundle: Path, trust: Trust, make_prompt: MakePrompt, signer: Signer
) -> None:
    runtime = Runtime(bundle, "onnxruntime", threads=1, prompts=prompt.parent, trust=trust)
    before = runtime.embed("w1", task="spam")
    make_prompt("spam", length=7, classes=2)
    assert "spam" in runtime.refresh().refused
    np.testing.assert_array_equal(runtime.embed("w1", task="spam"), before)
    sign_prompt(prompt, signer)
    assert runtime.refresh().replaced == ("spam",)
    assert runtime.task("spam").virtual_tokens == 7


def test_a_manifest_that_was_made_to_fit_is_refused(bundle: Path, trust: Trust) -> None:
    (bundle / "config.json").write_text("{}")
    manifest = json.loads((bundle / MANIFEST_NAME).read_text("utf-8"))
    files = manifest["files"] | {"config.json": sha256_of(bundle / "config.json")}
    edit_json(bundle / MANIFEST_NAME, files=files)
    Runtime(bundle, "onnxruntime", threads=1)
    with pytest.raises(TrustError, match=r"\(altered: config\.json, edge_prompt\.json\)"):
        Runtime(bundle, "onnxruntime", trust=trust)


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        ("model.onnx", "onnxruntime"),
        ("openvino_model.xml", "openvino"),
        ("openvino_model.bin", "openvino"),
        ("tokenizer.json", "openvino"),
    ],
)
def test_an_altered_file_of_a_signed_bundle_is_refused_when_it_is_used(
    bundle: Path, trust: Trust, name: str, engine: str
) -> None:
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    with pytest.raises(ManifestError, match="is altered"):
        Runtime(bundle, engine, threads=1, trust=trust).embed("w1")


def test_the_signature_of_another_bundle_is_refused(
    bundle: Path, trust: Trust, tiny_image_bundle: Path, tmp_path: Path, signer: Signer
) -> None:
    other = shutil.copytree(tiny_image_bundle, tmp_path / "other")
    shutil.copy(sign_bundle(other, signer), bundle / "model.sig")
    with pytest.raises(TrustError, match=r"does not sign .* \(altered: config\.json"):
        Runtime(bundle, "onnxruntime", trust=trust)


@pytest.mark.parametrize("name", ["model.onnx_more", "spam.npy", "deeper/tokenizer.json"])
def test_an_added_file_is_refused(bundle: Path, trust: Trust, signer: Signer, name: str) -> None:
    (bundle / name).parent.mkdir(exist_ok=True)
    (bundle / name).touch()
    with pytest.raises(TrustError, match=f"has {name}, which its manifest does not list"):
        Runtime(bundle, "onnxruntime", trust=trust)
    with pytest.raises(TrustError, match=f"has {name}"):
        sign_bundle(bundle, signer)


def test_a_folder_that_is_a_link_is_refused(bundle: Path, trust: Trust, tmp_path: Path) -> None:
    (bundle / "more").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(TrustError, match="has more, which"):
        Runtime(bundle, "onnxruntime", trust=trust)


def test_prompts_may_be_added_to_a_signed_bundle(bundle: Path, trust: Trust, prompt: Path) -> None:
    shutil.copytree(prompt.parent, bundle / "prompts")
    (bundle / ".model.sig.x1.tmp").touch()  # as a killed writer leaves it
    runtime = Runtime(bundle, "onnxruntime", threads=1, trust=trust)
    assert runtime.load_all(bundle / "prompts") == ("spam",)


def test_an_altered_bundle_is_not_signed(bundle: Path, signer: Signer) -> None:
    before = (bundle / "model.sig").read_bytes()
    (bundle / "tokenizer.json").write_text("{}")
    with pytest.raises(ManifestError, match="is altered"):
        sign_bundle(bundle, signer)
    assert (bundle / "model.sig").read_bytes() == before


def test_each_large_file_is_read_once_to_be_signed(
    bundle: Path, signer: Signer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = []

    def noted(path: Path) -> str:
        hashed.append(path.name)
        return sha256_of(path)

    monkeypatch.setattr("edge_prompt.formats.bundle.sha256_of", noted)
    sign_bundle(bundle, signer)
    assert sorted([*hashed, MANIFEST_NAME]) == sorted(read_bundle(bundle).sha256)


def test_model_signing_itself_agrees(bundle: Path, prompt: Path, key: KeyPair) -> None:
    shutil.copytree(prompt.parent, bundle / "prompts")
    config = verifying.Config().use_elliptic_key_verifier(public_key=key.public)  # type: ignore[no-untyped-call]
    config.verify(bundle, bundle / "model.sig")
    apart = verifying.Config().use_elliptic_key_verifier(public_key=key.public).set_ignore_unsigned_files(True)  # type: ignore[no-untyped-call]
    apart.verify(prompt.parent, signature_path(prompt))
    (bundle / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer\.json"):
        config.verify(bundle, bundle / "model.sig")


def test_files_signed_by_model_signing_are_trusted(bundle_copy: Path, key: KeyPair, trust: Trust) -> None:
    from model_signing import hashing, signing

    config = signing.Config().use_elliptic_key_signer(private_key=key.private)  # type: ignore[no-untyped-call]
    config.set_hashing_config(hashing.Config().set_ignored_paths(paths=["prompts", "model.sig"]))  # type: ignore[no-untyped-call]
    config.sign(bundle_copy, bundle_copy / "model.sig")
    read_trusted_bundle(bundle_copy, trust)  # raises nothing
