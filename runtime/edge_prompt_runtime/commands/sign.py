"""`edge-prompt sign PATH… --private-key KEY`."""

from __future__ import annotations

from pathlib import Path

import click

from edge_prompt.base.errors import CardError
from edge_prompt.formats.bundle import read_bundle
from edge_prompt.formats.manifest import MANIFEST_NAME
from edge_prompt.formats.prompt import PROMPT_SUFFIX, read_prompt
from edge_prompt.formats.signed_files import BUNDLE_SIGNATURE_NAME, signature_path
from edge_prompt.storage.files import read_hashed_json, sha256_of
from edge_prompt.storage.transaction import read_as_named
from edge_prompt.untrusted.json_fields import Fields
from edge_prompt_runtime.engines.base import ENGINES
from edge_prompt_runtime.language import compiled_files
from edge_prompt_runtime.signing.signatures import (
    Signer,
    certificate_signer,
    key_signer,
    sigstore_signer,
    write_signature,
)
from edge_prompt_runtime.signing.trust import APART, require_no_unknown_file


@click.command("sign")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--private-key", type=click.Path(path_type=Path), help="Elliptic-curve key (P-256, P-384, P-521) in PEM format."
)
@click.option(
    "--password",
    envvar="EDGE_PROMPT_KEY_PASSWORD",
    help="Password of the key. Prefer the environment variable.",
    show_envvar=True,
)
@click.option("--certificate", type=click.Path(path_type=Path), help="Certificate of the key (PEM), to include.")
@click.option(
    "--certificate-chain",
    type=click.Path(path_type=Path),
    multiple=True,
    help="With --certificate: intermediate certificates (PEM) to include in the signature; may be repeated.",
)
@click.option("--sigstore", is_flag=True, help="Sign with Sigstore, as the identity of your browser or workflow.")
@click.option("--identity-token", help="With --sigstore: OpenID Connect token of the identity to sign as.")
def command(
    paths: tuple[Path, ...],
    private_key: Path | None,
    password: str | None,
    certificate: Path | None,
    certificate_chain: tuple[Path, ...],
    identity_token: str | None,
    *,
    sigstore: bool,
) -> None:
    """Sign bundles (folders) and prompts (.npy files with their card, head and compiled forms).

    The signature of a bundle is the file model.sig inside it; the signature of TASK.npy is TASK.sig next to it. The
    signature of a bundle does not cover the prompts inside it: sign them separately.
    """
    if (private_key is None) is not sigstore:
        raise click.UsageError("pass either --private-key or --sigstore")
    if certificate is not None and (private_key is None or password is not None):
        raise click.UsageError("--certificate requires --private-key without --password")
    if certificate_chain and certificate is None:
        raise click.UsageError("--certificate-chain requires --certificate")
    if private_key is None:
        signer = sigstore_signer(identity_token)
    elif certificate is None:
        signer = key_signer(private_key, password)
    else:
        signer = certificate_signer(private_key, certificate, certificate_chain)
    for path in paths:
        written = sign_prompt(path, signer) if path.suffix == PROMPT_SUFFIX else [sign_bundle(path, signer)]
        for signature in written:
            click.echo(f"wrote {signature}")


def sign_bundle(folder: Path, signer: Signer) -> Path:
    """Sign the bundle in `folder`, after checking every file against the manifest.

    Returns:
        The path of the signature.

    Raises:
        EdgePromptError: The bundle is malformed or altered, has files that its manifest does not name, or cannot be
            signed. Each cause has its own class.
    """
    bundle = read_bundle(folder)
    require_no_unknown_file(bundle)
    bundle.require_unaltered({name: sha256 for name, sha256 in bundle.sha256.items() if name != MANIFEST_NAME})
    signature = folder / BUNDLE_SIGNATURE_NAME
    write_signature(signature, folder.resolve().name, bundle.sha256, signer, APART)
    return signature


def sign_prompt(path: Path, signer: Signer) -> list[Path]:
    """Sign the prompt at `path` and its compiled form for each engine.

    Returns:
        The paths of the signatures.

    Raises:
        EdgePromptError: The prompt is malformed, a compiled form belongs to another prompt, or signing fails.
    """
    prompt = read_prompt(path)
    signed = {signature_path(path): prompt.sha256}
    for engine in ENGINES:
        card = compiled_files.card_path(path, engine)
        if card.exists():
            signed[signature_path(card)] = _compiled(
                card, compiled_files.arrays_path(path, engine), prompt.sha256[path.name]
            )
    for signature, files in signed.items():
        write_signature(signature, path.stem, files, signer)
    return list(signed)


def _compiled(card: Path, arrays: Path, prompt_sha256: str) -> dict[str, str]:
    """Return the digests of a compiled prompt, after checking that it was compiled from this prompt."""
    value, sha256 = read_hashed_json(card, CardError)
    fields = Fields(value, str(card), CardError)
    _, found = read_as_named(arrays, fields.sha256("sha256"), lambda place: (None, sha256_of(place)))
    if (fields.sha256("prompt_sha256"), fields.sha256("sha256")) != (prompt_sha256, found):
        fields.refuse(
            "it was compiled from another prompt, or its arrays were altered",
            "the compiled form of this prompt",
            "compile the prompt again with 'edge-prompt compile', or delete the file",
        )
    return {card.name: sha256, arrays.name: found}
