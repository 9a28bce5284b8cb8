from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_prompt import EdgePromptError, read_prompt
from edge_prompt.base.errors import InputError, MissingFileError, TrustError
from edge_prompt.formats.signed_files import signature_path
from edge_prompt_runtime import Runtime, Trust
from edge_prompt_runtime.commands.sign import sign_bundle, sign_prompt
from edge_prompt_runtime.signing.signatures import Signer, certificate_signer
from edge_prompt_runtime.signing.trust import read_trusted_bundle
from tests.conftest import MakePrompt
from tests.keys import KeyPair, write_certified_key, write_key
from tests.runtime.signing.conftest import edit_json


def test_a_certificate_is_trusted_by_its_root(bundle_copy: Path, tmp_path: Path) -> None:
    ours, other = (write_certified_key(tmp_path, name) for name in ("ours", "other"))
    sign_bundle(bundle_copy, certificate_signer(ours.private, ours.certificate, ()))
    read_trusted_bundle(bundle_copy, Trust.certificates([ours.root]))
    read_trusted_bundle(bundle_copy, Trust.certificates([other.root, ours.root]))
    with pytest.raises(TrustError, match=r"unable to get local issuer certificate.*a certificate that .*other"):
        read_trusted_bundle(bundle_copy, Trust.certificates([other.root]))


def test_a_certificate_that_is_not_for_signing_is_refused(bundle_copy: Path, tmp_path: Path) -> None:
    ours = write_certified_key(tmp_path, "ours", for_signing=False)
    sign_bundle(bundle_copy, certificate_signer(ours.private, ours.certificate, ()))
    with pytest.raises(TrustError, match="cannot be used for signing"):
        read_trusted_bundle(bundle_copy, Trust.certificates([ours.root]))


def test_a_certificate_of_another_key_cannot_sign(bundle_copy: Path, tmp_path: Path, key: KeyPair) -> None:
    ours = write_certified_key(tmp_path, "ours")
    with pytest.raises(InputError, match="does not match"):
        sign_bundle(bundle_copy, certificate_signer(key.private, ours.certificate, ()))


def test_a_signature_of_another_method_is_refused(
    bundle_copy: Path, tmp_path: Path, key: KeyPair, trust: Trust, signer: Signer
) -> None:
    ours = write_certified_key(tmp_path, "ours")
    sign_bundle(bundle_copy, certificate_signer(ours.private, ours.certificate, ()))
    with pytest.raises(TrustError):
        read_trusted_bundle(bundle_copy, trust)
    sign_bundle(bundle_copy, signer)
    with pytest.raises(TrustError):
        read_trusted_bundle(bundle_copy, Trust.certificates([ours.root]))


def test_the_key_is_read_once(runtime: Runtime, prompt: Path, key: KeyPair, tmp_path: Path) -> None:
    shutil.copy(write_key(tmp_path, "other").public, key.public)
    runtime.load("spam", prompt)  # raises nothing


def test_threads_verify_their_own_files(prompt: Path, trust: Trust, make_prompt: MakePrompt, signer: Signer) -> None:
    other = make_prompt("ham", classes=2)
    sign_prompt(other, signer)
    signatures = trust.signatures()
    files = {path: read_prompt(path).sha256 for path in (prompt, other)}
    cases = [(signed, asked) for signed in files for asked in files] * 100

    def accepted(case: tuple[Path, Path]) -> bool:
        try:
            signatures.require(signature_path(case[0]), files[case[1]])
        except TrustError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(accepted, cases)) == [signed == asked for signed, asked in cases]


def test_a_missing_key_is_named(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="nowhere: no such file"):
        Runtime(bundle, trust=Trust.key(tmp_path / "nowhere"))


@pytest.mark.parametrize("made", [Trust.key, lambda path: Trust.certificates([path])])
@pytest.mark.parametrize("content", [b"", b"\x00\xff", b"-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----\n"])
def test_a_file_that_is_no_key_is_refused(
    bundle: Path, tmp_path: Path, made: Callable[[Path], Trust], content: bytes
) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(TrustError, match=r"cannot check signatures by .*file"):
        Runtime(bundle, trust=made(tmp_path / "file"))


def test_trust_needs_a_signer() -> None:
    with pytest.raises(InputError):
        Trust.certificates([])
    with pytest.raises(InputError):
        Trust.identity("someone@example.org", "")
    assert Trust.identity("someone@example.org", "https://example.org").described.startswith("someone@example.org")


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[]", b"\xff", b"[" * 100_000, b'{"verificationMaterial": 1}', b'{"a": 1, "a": 1}', b" " * (5 << 20)],
)
def test_a_malformed_signature_is_refused(prompt: Path, runtime: Runtime, content: bytes) -> None:
    signature_path(prompt).write_bytes(content)
    with pytest.raises(TrustError):
        runtime.load("spam", prompt)


@pytest.mark.parametrize("public_key", [{}, {"hint": None}, {"hint": ""}, None])
def test_a_signature_that_does_not_say_by_which_key_is_refused(
    prompt: Path, runtime: Runtime, capfd: pytest.CaptureFixture[str], public_key: dict[str, Any] | None
) -> None:
    signature = signature_path(prompt)
    edit_json(signature, verificationMaterial={"publicKey": public_key})
    with pytest.raises(TrustError, match="does not name its key"):
        runtime.load("spam", prompt)
    assert capfd.readouterr() == ("", "")


@pytest.fixture
def signature(prompt: Path) -> bytes:
    return signature_path(prompt).read_bytes()


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(data=st.data())
def test_nothing_but_our_errors_comes_of_a_mangled_signature(
    prompt: Path, runtime: Runtime, signature: bytes, data: st.DataObject
) -> None:
    content = data.draw(mangled(signature))
    signature_path(prompt).write_bytes(content)
    try:
        runtime.load("spam", prompt)
    except EdgePromptError:
        return
    assert statement_in(content) == statement_in(signature)


def statement_in(signature: bytes) -> bytes:
    return base64.b64decode(json.loads(signature)["dsseEnvelope"]["payload"])


def mangled(content: bytes) -> st.SearchStrategy[bytes]:
    """Change or cut bytes, or replace values of the JSON."""
    places = st.integers(0, len(content) - 1)
    cut = st.tuples(places, places).map(lambda pair: content[: min(pair)] + content[max(pair) :])
    flipped = st.tuples(places, st.integers(0, 255)).map(
        lambda pair: content[: pair[0]] + bytes([pair[1]]) + content[pair[0] + 1 :]
    )
    value = json.loads(content)
    scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(allow_nan=False)
    other = st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=8), inner, max_size=2),
        max_leaves=4,
    )
    replaced = st.tuples(st.sampled_from(paths_in(value)), other).map(
        lambda pair: json.dumps(with_value(value, *pair)).encode()
    )
    return cut | flipped | replaced


def paths_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, child in inner for found in [(*path, key), *paths_in(child, (*path, key))]]


def with_value(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copied = dict(value) if isinstance(value, dict) else list(value)
    copied[path[0]] = with_value(value[path[0]], path[1:], new)
    return copied
