"""The options that select a trusted signer."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from edge_prompt_runtime.signing.trust import Trust

_OPTIONS = (
    click.option("--issuer", help="With --identity: OpenID Connect provider that issued the identity."),
    click.option("--identity", help="Require a Sigstore signature by this identity."),
    click.option(
        "--certificate-chain",
        type=click.Path(path_type=Path),
        multiple=True,
        help="Require a signature whose certificate chains up to one in this PEM file; may be repeated.",
    ),
    click.option(
        "--public-key",
        type=click.Path(path_type=Path),
        help="Require a signature that matches the public key in this PEM file.",
    ),
)


def trust_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options to a command, which receives the resulting `Trust`, or None, as the argument `trust`."""

    @wraps(command)
    def trusting(
        *arguments: Any,
        public_key: Path | None,
        certificate_chain: tuple[Path, ...],
        identity: str | None,
        issuer: str | None,
        **options: Any,
    ) -> Any:
        return command(*arguments, trust=_trust(public_key, certificate_chain, identity, issuer), **options)

    for option in _OPTIONS:
        trusting = option(trusting)
    return trusting


def _trust(
    public_key: Path | None, certificate_chain: tuple[Path, ...], identity: str | None, issuer: str | None
) -> Trust | None:
    given = [bool(public_key), bool(certificate_chain), bool(identity or issuer)]
    if sum(given) > 1:
        raise click.UsageError("pass only one of --public-key, --certificate-chain, and --identity with --issuer")
    if public_key is not None:
        return Trust.key(public_key)
    if certificate_chain:
        return Trust.certificates(certificate_chain)
    if identity or issuer:
        return Trust.identity(identity or "", issuer or "")
    return None
