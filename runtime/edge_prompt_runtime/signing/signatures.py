"""Creating and checking signatures with OpenSSF's model-signing. Imported only when signatures are used."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any, NamedTuple

from model_signing import hashing, manifest, signing, verifying
from model_signing._hashing.hashing import Digest

from edge_prompt.base.errors import EdgePromptError, InputError, TrustError
from edge_prompt.storage.files import read_json, written_atomically
from edge_prompt_runtime.signing.trust import Trust

MAX_REASON = 300
"""The most characters of a library's error message that our own message quotes."""

_PUBLIC_KEY_FORMAT = "an elliptic-curve public key (P-256, P-384, P-521) or certificates in PEM format"

_DISK_ERRORS = frozenset({errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC, errno.EROFS})
"""System errors about the disk; all other errors are about keys or the network."""

_ALTERED = re.compile(r"Hash mismatch for \\?'([^'\\]+)")


class KnownDigests(hashing.Config):
    """A hashing configuration with known digests, so that model-signing does not read all files again.

    Args:
        files: The SHA-256 of each file by name.
        apart: Files next to them that are not signed, recorded for other verifiers.
    """

    def __init__(self, files: Mapping[str, str], apart: frozenset[str] = frozenset()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._files = files
        self._apart = apart

    def hash(self, model_path: Any, *, files_to_hash: Any = None) -> manifest.Manifest:  # noqa: ARG002 - its signature
        """Return the digests as a model-signing manifest."""
        items = [
            manifest.FileManifestItem(path=PurePosixPath(name), digest=Digest("sha256", bytes.fromhex(sha256)))
            for name, sha256 in self._files.items()
        ]
        how: dict[str, Any] = {"method": "files", "hash_type": "sha256", "allow_symlinks": False}
        if self._apart:
            how["ignore_paths"] = sorted(self._apart)
        return manifest.Manifest(Path(model_path).name, items, manifest.SerializationType.from_args(how))

    def add_ignored_paths(self, *, model_path: Any, paths: Any) -> None:
        """Do nothing: the digests are fixed, whatever paths a signature ignores."""


class ModelSignatures:
    """Checks signatures; see `edge_prompt.formats.signed_files.Signatures`. Instances are thread-safe.

    Args:
        trust: The trusted signer.

    Raises:
        TrustError: A file is not a key or certificate, or Sigstore cannot be reached.
    """

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        self._lock = Lock()  # the configuration and OpenSSL's store are not thread-safe
        self._config = verifying.Config()  # type: ignore[no-untyped-call]
        try:
            if trust.public_key is not None:
                self._config.use_elliptic_key_verifier(public_key=trust.public_key)
            elif trust.certificate_chain:
                self._config.use_certificate_verifier(certificate_chain=trust.certificate_chain)
            else:
                self._config.use_sigstore_verifier(identity=trust.signer, oidc_issuer=trust.issuer)
        except Exception as error:  # cryptography, OpenSSL and sigstore have no common class
            raise TrustError(
                found=f"cannot check signatures by {trust.described} ({_reason(error)})",
                wanted="a network connection, to fetch Sigstore's trusted root" if trust.signer else _PUBLIC_KEY_FORMAT,
                remedy="connect to the network" if trust.signer else "check the file",
            ) from error

    def require(self, signature: Path, files: Mapping[str, str]) -> None:
        """See `edge_prompt.formats.signed_files.Signatures`."""
        if not signature.is_file():
            self._refuse(f"{signature}: no such file, so {_named(files)} not signed")
        try:
            self._require_hint(read_json(signature, TrustError))
            with self._lock:
                self._config.set_hashing_config(KnownDigests(files))
                self._config.verify(signature.parent, signature)
        except EdgePromptError:
            raise
        except Exception as error:  # noqa: BLE001 - untrusted input can make the libraries raise anything
            self._refuse(f"{signature} does not sign {_named(files, '')} ({_reason(error)})", error)

    def _require_hint(self, content: Mapping[str, Any]) -> None:
        """Check that a signature by a key names the key; model-signing would only print a warning."""
        material = content.get("verificationMaterial")
        key = material.get("publicKey") if isinstance(material, dict) else None
        hint = key.get("hint") if isinstance(key, dict) else None
        if self._trust.public_key is not None and not (isinstance(hint, str) and hint):
            raise ValueError("it does not name its key")

    def _refuse(self, found: str, cause: Exception | None = None) -> None:
        raise TrustError(
            found=found,
            wanted=f"a signature by {self._trust.described}",
            remedy="get the files from a trusted source, or sign them with 'edge-prompt sign'",
        ) from cause


class Signer(NamedTuple):
    """How to sign.

    Attributes:
        described: Its description, for error messages.
        wanted: What it requires, for error messages.
        configure: Configures model-signing.
    """

    described: str
    wanted: str
    configure: Callable[[signing.Config], object]


def key_signer(private_key: Path, password: str | None = None) -> Signer:
    """Sign with a private key (P-256, P-384 or P-521) in a PEM file, which may be encrypted."""
    secret: Any = None if password is None else password.encode()  # the annotation is str, but bytes are required
    return Signer(
        str(private_key),
        "an elliptic-curve private key (P-256, P-384, P-521) in PEM format, and its password if it has one",
        lambda config: config.use_elliptic_key_signer(private_key=private_key, password=secret),
    )


def certificate_signer(private_key: Path, certificate: Path, chain: tuple[Path, ...]) -> Signer:
    """Sign with a private key, and include its certificate and any intermediate certificates in the signature."""
    return Signer(
        str(certificate),
        "an elliptic-curve private key (P-256, P-384, P-521) in PEM format, and its certificate",
        lambda config: config.use_certificate_signer(
            private_key=private_key,
            signing_certificate=certificate,
            certificate_chain=chain or (certificate,),  # the chain may not be empty, and duplicates are harmless
        ),
    )


def sigstore_signer(identity_token: str | None = None) -> Signer:
    """Sign with Sigstore, with the identity from a browser, a workflow or a token. This requires a network."""
    return Signer(
        "Sigstore",
        "a network connection and an identity to sign as",
        lambda config: config.use_sigstore_signer(identity_token=identity_token, use_ambient_credentials=True),
    )


def write_signature(
    signature: Path, name: str, files: Mapping[str, str], signer: Signer, apart: frozenset[str] = frozenset()
) -> None:
    """Sign files by their digests, and write the signature atomically.

    Args:
        signature: The file to write.
        name: The name of what is signed, for people.
        files: The SHA-256 of each file by name.
        signer: How to sign.
        apart: Files next to them that are not signed, recorded for other verifiers.

    Raises:
        InputError: A key or certificate cannot be used, or Sigstore fails or cannot be reached.
        WriteError: The signature cannot be written.
    """
    config = signing.Config()  # type: ignore[no-untyped-call]
    config.set_hashing_config(KnownDigests(files, apart))
    with written_atomically(signature) as stream:
        try:
            signer.configure(config)
            config.sign(Path(name), stream.name)  # it reopens the same temporary file
        except Exception as error:  # cryptography and sigstore have no common class
            if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
                raise
            raise InputError(
                found=f"{signer.described} cannot sign {name} ({_reason(error)})",
                wanted=signer.wanted,
                remedy="check the files and the password, or the network",
            ) from error


def _reason(error: Exception) -> str:
    """Return the message of a library's error in one line, or the names of the files whose digests differ."""
    altered = _ALTERED.findall(str(error))
    if altered:
        return f"altered: {', '.join(altered)}"[:MAX_REASON]
    return " ".join(str(error).split())[:MAX_REASON] or type(error).__name__


def _named(files: Mapping[str, str], verb: str = "are") -> str:
    first, *others = files
    return f"{first}{f' and {len(others)} more' if others else ''} {verb if others or not verb else 'is'}".rstrip()
