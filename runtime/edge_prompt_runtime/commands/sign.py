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
from edge_prompt_runtime.language import compiled_files as saved
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
@click.option("--private-key", type=click.Path(path_type=Path), help="An elliptic key (P-256, P-384, P-521) in PEM.")
@click.option(
    "--password", envvar="EDGE_PROMPT_KEY_PASSWORD", help="Of the key; better given as that variable.", show_envvar=True
)
@click.option("--certificate", type=click.Path(path_type=Path), help="Of the private key, in PEM; goes along.")
@click.option(
    "--certificate-chain",
    type=click.Path(path_type=Path),
    multiple=True,
    help="With --certificate: those between it and a root, in PEM; go along; may be given again.",
)
@click.option("--sigstore", is_flag=True, help="Sign without a key, as whom your browser or workflow says.")
@click.option("--identity-token", help="With --sigstore: say so by this token.")
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
    """Sign bundles (folders) and prompts (.npy, with card, head, and what was compiled of it).

    The signature of a bundle is its file model.sig, that of TASK.npy is TASK.sig beside it. Prompts in a bundle are not
    part of its signature: sign them, too.
    """
    if (private_key is None) is not sigstore:
        raise click.UsageError("pass one of --private-key and --sigstore")
    if certificate is not None and (private_key is None or password is not None):
        raise click.UsageError("--certificate belongs to a --private-key without --password")
    if certificate_chain and certificate is None:
        raise click.UsageError("--certificate-chain belongs to --certificate")
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
    """Sign the bundle in `folder`, once every file was found to be what its manifest says.

    Returns:
        The signature's file.

    Raises:
        EdgePromptError: The bundle is malformed or altered, has files that its manifest does not name, or cannot be
            signed; each cause has its class.
    """
    bundle = read_bundle(folder)
    require_no_unknown_file(bundle)
    bundle.require_unaltered({name: sha256 for name, sha256 in bundle.sha256.items() if name != MANIFEST_NAME})
    signature = folder / BUNDLE_SIGNATURE_NAME
    write_signature(signature, folder.resolve().name, bundle.sha256, signer, APART)
    return signature


def sign_prompt(path: Path, signer: Signer) -> list[Path]:
    """Sign the prompt at `path`, and what was compiled of it for each engine.

    Returns:
        The signatures' files.

    Raises:
        EdgePromptError: The prompt is malformed, what was compiled is of another, or they cannot be signed.
    """
    prompt = read_prompt(path)
    signed = {signature_path(path): prompt.sha256}
    for engine in ENGINES:
        card = saved.card_path(path, engine)
        if card.exists():
            signed[signature_path(card)] = _compiled(card, saved.arrays_path(path, engine), prompt.sha256[path.name])
    for signature, files in signed.items():
        write_signature(signature, path.stem, files, signer)
    return list(signed)


def _compiled(card: Path, arrays: Path, prompt_sha256: str) -> dict[str, str]:
    """The digests of a compiled prompt, if it is of this prompt."""
    value, sha256 = read_hashed_json(card, CardError)
    fields = Fields(value, str(card), CardError)
    _, found = read_as_named(arrays, fields.sha256("sha256"), lambda place: (None, sha256_of(place)))
    if (fields.sha256("prompt_sha256"), fields.sha256("sha256")) != (prompt_sha256, found):
        fields.refuse(
            "it was compiled from another prompt, or its arrays were altered",
            "what was compiled from this one",
            "compile the prompt again with 'edge-prompt compile', or delete the file",
        )
    return {card.name: sha256, arrays.name: found}
