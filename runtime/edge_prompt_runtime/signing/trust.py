"""Whom to trust: bundles and prompts that they did not sign are refused. Needs the extra `sign`."""

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
"""Files and folders of a bundle that its signature is not about: itself, and prompts, which come later."""


@dataclass(frozen=True)
class Trust:
    """Whose signatures are believed; made by `key`, `certificates` or `identity`.

    Attributes:
        public_key: The file of a public key.
        certificate_chain: Files of certificates that may vouch for the certificate in a signature.
        signer: Who signed by Sigstore, an address of mail or of a workflow.
        issuer: Who vouches for that: the address of an OpenID Connect provider.
    """

    public_key: Path | None = None
    certificate_chain: tuple[Path, ...] = ()
    signer: str = ""
    issuer: str = ""

    @classmethod
    def key(cls, public_key: str | Path) -> Self:
        """Whoever has the private key to this public key, a PEM file of P-256, P-384 or P-521."""
        return cls(public_key=Path(public_key))

    @classmethod
    def certificates(cls, certificate_chain: Iterable[str | Path]) -> Self:
        """Whoever has a certificate for signing that these PEM files vouch for: roots, and what lies between.

        Raises:
            InputError: There is none.
        """
        chain = tuple(map(Path, certificate_chain))
        if not chain:  # model-signing would take those of every web site
            raise InputError(found="no certificate", wanted="at least one", remedy="pass the root that you trust")
        return cls(certificate_chain=chain)

    @classmethod
    def identity(cls, identity: str, issuer: str) -> Self:
        """Whoever signed by Sigstore as `identity`, by the word of `issuer`; checking needs a network.

        Raises:
            InputError: One of them is empty.
        """
        if not identity or not issuer:
            raise InputError(
                found=f"the identity {identity!r} by the word of {issuer!r}", wanted="both", remedy="pass both"
            )
        return cls(signer=identity, issuer=issuer)

    @property
    def described(self) -> str:
        """Whom it is, as a message names it."""
        if self.public_key is not None:
            return f"the key {self.public_key}"
        if self.certificate_chain:
            return f"a certificate that {', '.join(map(str, self.certificate_chain))} vouch for"
        return f"{self.signer}, by the word of {self.issuer}"

    def signatures(self) -> Signatures:
        """Read keys and certificates, once: what their files hold later does not count.

        Raises:
            MissingExtraError: The extra `sign` is not installed.
            MissingFileError: There is no such file.
            TrustError: It is no key or certificate, or Sigstore cannot be reached.
        """
        require_extra("sign", "checking signatures")
        for path in (*filter(None, [self.public_key]), *self.certificate_chain):
            require_file(path)
        from edge_prompt_runtime.signing.signatures import ModelSignatures  # noqa: PLC0415 - slow, and an extra

        return ModelSignatures(self)


def read_trusted_bundle(folder: Path, trust: Trust | None) -> Bundle:
    """Read the bundle in `folder` as `read_bundle` does; it must be signed, if there is a `trust`.

    The signature holds the digests that the manifest names; each file is compared with its own when it is used.

    Raises:
        TrustError: It is not signed, is not what was signed, or has files that nobody signed.
        EdgePromptError: It is malformed, or `trust` cannot be read; each cause has its class.
    """
    bundle = read_bundle(folder)
    if trust is None:
        return bundle
    signatures = trust.signatures()
    signatures.require(folder / BUNDLE_SIGNATURE_NAME, bundle.sha256)
    require_no_unknown_file(bundle)
    return replace(bundle, signatures=signatures)


def require_no_unknown_file(bundle: Bundle) -> None:
    """Refuse a bundle with files that its manifest does not name, prompts apart.

    Raises:
        TrustError: It has.
    """
    unknown = unknown_files(bundle.folder, bundle.sha256, APART)
    if unknown:
        raise TrustError(
            found=f"{bundle.folder} has {', '.join(unknown[:8])}, which its manifest does not name",
            wanted=f"the files of the manifest, and prompts in {PROMPTS_FOLDER}",
            remedy="remove what does not belong there",
        )
