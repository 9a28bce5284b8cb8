"""Signatures by OpenSSF's model-signing: made and checked. Imported only where something is signed or must be."""

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
"""Characters of a library's own words in a message."""

_PEM = "an elliptic public key (P-256, P-384, P-521), or certificates, in PEM"

_OF_THE_DISK = frozenset({errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC, errno.EROFS})
"""What the system says of a disk that takes no more; everything else is said of keys and networks."""

_ALTERED = re.compile(r"Hash mismatch for \\?'([^'\\]+)")


class KnownDigests(hashing.Config):
    """Digests that are known, where model-signing would read all files once more.

    Args:
        files: SHA-256 by name.
        apart: What lies beside them and is not signed; told to other verifiers.
    """

    def __init__(self, files: Mapping[str, str], apart: frozenset[str] = frozenset()) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._files = files
        self._apart = apart

    def hash(self, model_path: Any, *, files_to_hash: Any = None) -> manifest.Manifest:  # noqa: ARG002 - its signature
        """The digests, as model-signing has them."""
        items = [
            manifest.FileManifestItem(path=PurePosixPath(name), digest=Digest("sha256", bytes.fromhex(sha256)))
            for name, sha256 in self._files.items()
        ]
        how: dict[str, Any] = {"method": "files", "hash_type": "sha256", "allow_symlinks": False}
        if self._apart:
            how["ignore_paths"] = sorted(self._apart)
        return manifest.Manifest(Path(model_path).name, items, manifest.SerializationType.from_args(how))

    def add_ignored_paths(self, *, model_path: Any, paths: Any) -> None:
        """Nothing is ignored, whatever a signature says: the digests are those that were read."""


class ModelSignatures:
    """See `edge_prompt.formats.signed_files.Signatures`. Any number of threads may use one.

    Args:
        trust: Whose signatures they must be.

    Raises:
        TrustError: A file of it is no key or certificate, or Sigstore cannot be reached.
    """

    def __init__(self, trust: Trust) -> None:
        self._trust = trust
        self._lock = Lock()  # its configuration and OpenSSL's store are not for several threads
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
                found=f"{trust.described} cannot be checked against ({_reason(error)})",
                wanted="a network, for what Sigstore itself is trusted by" if trust.signer else _PEM,
                remedy="connect it" if trust.signer else "check the file",
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
        except Exception as error:  # noqa: BLE001 - whatever the libraries make of a hostile file
            self._refuse(f"{signature} does not sign {_named(files, '')} ({_reason(error)})", error)

    def _require_hint(self, content: Mapping[str, Any]) -> None:
        """Of a signature by a key: model-signing prints a warning where it does not say which, and goes on."""
        material = content.get("verificationMaterial")
        key = material.get("publicKey") if isinstance(material, dict) else None
        hint = key.get("hint") if isinstance(key, dict) else None
        if self._trust.public_key is not None and not (isinstance(hint, str) and hint):
            raise ValueError("it does not say by which key")

    def _refuse(self, found: str, cause: Exception | None = None) -> None:
        raise TrustError(
            found=found,
            wanted=f"a signature by {self._trust.described}",
            remedy="get it from where you trust, or sign it with 'edge-prompt sign'",
        ) from cause


class Signer(NamedTuple):
    """What to sign with.

    Attributes:
        described: As a message names it.
        wanted: What it needs, for a message.
        configure: Tells model-signing.
    """

    described: str
    wanted: str
    configure: Callable[[signing.Config], object]


def key_signer(private_key: Path, password: str | None = None) -> Signer:
    """Sign with a private key, a PEM file of P-256, P-384 or P-521, encrypted or not."""
    secret: Any = None if password is None else password.encode()  # says str, and hands it to what takes bytes
    return Signer(
        str(private_key),
        "an elliptic private key (P-256, P-384, P-521) in PEM, and its password if it has one",
        lambda config: config.use_elliptic_key_signer(private_key=private_key, password=secret),
    )


def certificate_signer(private_key: Path, certificate: Path, chain: tuple[Path, ...]) -> Signer:
    """Sign with a private key; the signature carries its certificate, and those between it and a root."""
    return Signer(
        str(certificate),
        "an elliptic private key (P-256, P-384, P-521) in PEM, and its own certificate",
        lambda config: config.use_certificate_signer(
            private_key=private_key,
            signing_certificate=certificate,
            certificate_chain=chain or (certificate,),  # it does not take an empty one, and twice does no harm
        ),
    )


def sigstore_signer(identity_token: str | None = None) -> Signer:
    """Sign by Sigstore, without a key: as whom a browser, a workflow's credentials or a token say. Needs a network."""
    return Signer(
        "Sigstore",
        "a network, and someone to sign as",
        lambda config: config.use_sigstore_signer(identity_token=identity_token, use_ambient_credentials=True),
    )


def write_signature(
    signature: Path, name: str, files: Mapping[str, str], signer: Signer, apart: frozenset[str] = frozenset()
) -> None:
    """Sign files by their digests, and write the signature atomically.

    Args:
        signature: The file to write.
        name: What is signed, for people.
        files: SHA-256 by name.
        signer: What to sign with.
        apart: What lies beside them and is not signed; told to other verifiers.

    Raises:
        InputError: A key or certificate cannot be used, or Sigstore refuses or cannot be reached.
        WriteError: The file cannot be written.
    """
    config = signing.Config()  # type: ignore[no-untyped-call]
    config.set_hashing_config(KnownDigests(files, apart))
    with written_atomically(signature) as stream:
        try:
            signer.configure(config)
            config.sign(Path(name), stream.name)  # it opens the file anew: the same, that is renamed when all is well
        except Exception as error:  # cryptography and sigstore have no common class
            if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
                raise
            raise InputError(
                found=f"{signer.described} cannot sign {name} ({_reason(error)})",
                wanted=signer.wanted,
                remedy="check files and password, or the network",
            ) from error


def _reason(error: Exception) -> str:
    """A library's own words in one line; of digests that differ, the names of their files."""
    altered = _ALTERED.findall(str(error))
    if altered:
        return f"altered: {', '.join(altered)}"[:MAX_REASON]
    return " ".join(str(error).split())[:MAX_REASON] or type(error).__name__


def _named(files: Mapping[str, str], verb: str = "are") -> str:
    first, *others = files
    return f"{first}{f' and {len(others)} more' if others else ''} {verb if others or not verb else 'is'}".rstrip()
