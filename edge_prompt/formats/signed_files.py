"""What is signed: a bundle, a prompt, a compiled prompt, each by the digests of its files, in a file beside it.

A signature is one of OpenSSF's model-signing; `docs/reference/formats.md` lists the digests it holds. They are compared
with the digests that the readers compute from what they read, or check whenever they use a file.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Protocol

from edge_prompt.formats.card import card_path
from edge_prompt.formats.prompt import Prompt, read_prompt
from edge_prompt.storage.transaction import read_unchanged

BUNDLE_SIGNATURE_NAME = "model.sig"
"""What model-signing itself calls the signature of a folder."""

SIGNATURE_SUFFIX = ".sig"


class Signatures(Protocol):
    """Signatures by someone who is trusted."""

    def require(self, signature: Path, files: Mapping[str, str]) -> None:
        """Refuse what the file `signature` does not sign.

        Args:
            signature: The file.
            files: SHA-256 by name of each file that must be signed; the signature must hold these and no others.

        Raises:
            TrustError: There is no such file, it is malformed, of someone else, or signs something else.
        """


def signature_path(prompt: Path) -> Path:
    """Where the signature of the prompt at `prompt` lies."""
    return prompt.with_suffix(SIGNATURE_SUFFIX)


def read_signed_prompt(path: Path, signatures: Signatures | None) -> Prompt:
    """Read a prompt as `read_prompt` does; what was read must be signed, if anything must be.

    Raises:
        TrustError: It is not signed, or is not what was signed.
        EdgePromptError: It is malformed; each cause has its class.
    """
    if signatures is None:
        return read_prompt(path)
    trusted = signatures

    def read() -> Prompt:
        prompt = read_prompt(path)
        trusted.require(signature_path(path), prompt.sha256)
        return prompt

    return read_unchanged(lambda: (signature_path(path), card_path(path), path), read)


def unknown_files(folder: Path, known: Collection[str], apart: Collection[str]) -> list[str]:
    """Files in `folder` that are not among the names `known`.

    Args:
        folder: The folder of a bundle.
        known: Names of files, relative to it, with slashes.
        apart: Names of files and folders right in it that are not looked at, as are those that begin with a dot: no
            manifest can name these.

    Returns:
        Their names, sorted.
    """
    found: list[str] = []
    for parent, folders, files in os.walk(folder):
        top = Path(parent) == folder
        links = [name for name in folders if (Path(parent) / name).is_symlink()]
        folders[:] = [name for name in folders if not (name.startswith(".") or (top and name in apart))]
        found += [
            (Path(parent) / name).relative_to(folder).as_posix()
            for name in (*files, *links)
            if not (name.startswith(".") or (top and name in apart))
        ]
    return sorted(set(found) - set(known))
