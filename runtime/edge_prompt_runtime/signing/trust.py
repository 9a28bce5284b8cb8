"""Trusted signers: bundles and prompts without their signature are rejected. This requires the extra `sign`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from edge_prompt.base.errors import InputError, TrustError
from edge_prompt.base.extras import require_extra
from edge_prompt.formats.bundle import PROMPTS_FOLDER, Bundle, read_bundle
from edge_prompt.formats.signed_files import BUNDLE_SIGNATURE_NAME, Signatures, unknown_files
from edge_prompt.storage.files import require_file

APART = frozenset({BUNDLE_SIGNATURE_NAME, PROMPTS_FOLDER})
"""Files and folders that the signature of a bundle does not cover: itself, and prompts, which are added later."""


@dataclass(frozen=True)
class Trust:
    """A trusted signer, created with `key`, `certificates` or `identity`.

    Attributes:
        public_key: The path of a public key.
        certificate_chain: The paths of the certificates to which the certificate in a signature must chain up.
        signer: The Sigstore identity of the signer: an email address, or the URL of a workflow.
        issuer: The OpenID Connect provider that issued the identity, as a URL.
    """

    public_key: Path | None = None
    certificate_chain: tuple[Path, ...] = ()
    signer: str = ""
    issuer: str = ""

    @classmethod
    def key(cls, public_key: str | Path) -> Self:
        """Trust signatures that match this public key, a PEM file (P-256, P-384 or P-521)."""
        return cls(public_key=Path(public_key))

    @classmethod
    def certificates(cls, certificate_chain: Iterable[str | Path]) -> Self:
        """Trust signatures whose signing certificate chains up to these PEM files: roots and intermediates.

        Raises:
            InputError: No certificate is given.
        """
        chain = tuple(map(Path, certificate_chain))
        if not chain:  # model-signing would accept the system's root certificates
            raise InputError(found="no certificate", wanted="at least one", remedy="pass the trusted root certificate")
        return cls(certificate_chain=chain)

    @classmethod
    def identity(cls, identity: str, issuer: str) -> Self:
        """Trust Sigstore signatures by `identity`, issued by `issuer`. Checking them requires a network.

        Raises:
            InputError: One of them is empty.
        """
        if not identity or not issuer:
            raise InputError(
                found=f"the identity {identity!r} and the issuer {issuer!r}",
                wanted="both to be non-empty",
                remedy="pass an identity and its issuer",
            )
        return cls(signer=identity, issuer=issuer)

    @property
    def described(self) -> str:
        """A description of the signer for messages."""
        if self.public_key is not None:
            return f"the key {self.public_key}"
        if self.certificate_chain:
            return f"a certificate that chains up to {', '.join(map(str, self.certificate_chain))}"
        return f"{self.signer}, issued by {self.issuer}"

    def signatures(self) -> Signatures:
        """Read the keys and certificates once. Later changes to their files have no effect.

        Raises:
            MissingExtraError: The extra `sign` is not installed.
            MissingFileError: There is no such file.
            TrustError: A file is not a key or certificate, or Sigstore cannot be reached.
        """
        require_extra("sign", "checking signatures")
        for path in (*filter(None, [self.public_key]), *self.certificate_chain):
            require_file(path)
        from edge_prompt_runtime.signing.signatures import ModelSignatures  # noqa: PLC0415 - slow, and an extra

        return ModelSignatures(self)


def read_trusted_bundle(folder: Path, trust: Trust | None) -> Bundle:
    """Read the bundle in `folder` like `read_bundle`, and check its signature if `trust` is given.

    The signature contains the digests that the manifest lists. Each file is compared with its digest when it is used.

    Raises:
        TrustError: The bundle has no valid signature, or contains files that are not signed.
        EdgePromptError: The bundle is malformed, or `trust` cannot be read. Each cause has its own class.
    """
    bundle = read_bundle(folder)
    if trust is None:
        return bundle
    signatures = trust.signatures()
    signatures.require(folder / BUNDLE_SIGNATURE_NAME, bundle.sha256)
    require_no_unknown_file(bundle)
    return replace(bundle, signatures=signatures)


def require_no_unknown_file(bundle: Bundle) -> None:
    """Check that a bundle contains no files, except prompts, that its manifest does not list.

    Raises:
        TrustError: It contains such files.
    """
    unknown = unknown_files(bundle.folder, bundle.sha256, APART)
    if unknown:
        raise TrustError(
            found=f"{bundle.folder} has {', '.join(unknown[:8])}, which its manifest does not list",
            wanted=f"only files that the manifest lists, and prompts in {PROMPTS_FOLDER}",
            remedy="remove the other files",
        )
