"""The options of commands that may be told whom to trust."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from edge_prompt_runtime.signing.trust import Trust

_OPTIONS = (
    click.option("--issuer", help="With --identity: the OpenID Connect provider that vouches for it."),
    click.option("--identity", help="Refuse what was not signed by Sigstore as this identity."),
    click.option(
        "--certificate-chain",
        type=click.Path(path_type=Path),
        multiple=True,
        help="Refuse what was not signed with a certificate that this PEM file vouches for; may be given again.",
    ),
    click.option(
        "--public-key",
        type=click.Path(path_type=Path),
        help="Refuse what was not signed with the key to this PEM file.",
    ),
)


def trust_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options, and `trust`, which they amount to: a `Trust`, or None where there is none of them."""

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
        raise click.UsageError("pass one of --public-key, --certificate-chain and --identity with --issuer")
    if public_key is not None:
        return Trust.key(public_key)
    if certificate_chain:
        return Trust.certificates(certificate_chain)
    if identity or issuer:
        return Trust.identity(identity or "", issuer or "")
    return None
