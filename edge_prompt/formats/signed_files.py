"""Signatures of bundles, prompts and compiled prompts: one file next to each, which signs the digests of its files.

Signatures have the format of OpenSSF's model-signing; `docs/reference/formats.md` lists the digests that they contain.
They are compared with the digests that the readers compute from the bytes they read, or check whenever they use a file.
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
"""The name that model-signing gives to the signature of a folder."""

SIGNATURE_SUFFIX = ".sig"


class Signatures(Protocol):
    """Checks signatures by a trusted signer."""

    def require(self, signature: Path, files: Mapping[str, str]) -> None:
        """Check that `signature` signs exactly these files.

        Args:
            signature: The signature file.
            files: The SHA-256 of each file by name. The signature must contain exactly these.

        Raises:
            TrustError: The signature is missing, malformed, by another signer, or of other files.
        """


def signature_path(prompt: Path) -> Path:
    """Return the path of the signature of the prompt at `prompt`."""
    return prompt.with_suffix(SIGNATURE_SUFFIX)


def read_signed_prompt(path: Path, signatures: Signatures | None) -> Prompt:
    """Read a prompt like `read_prompt`, and check its signature if `signatures` is given.

    Raises:
        TrustError: The prompt has no valid signature.
        EdgePromptError: The prompt is malformed. Each cause has its own class.
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
    """Return the files in `folder` whose names are not in `known`.

    Args:
        folder: The folder of a bundle.
        known: Names of files, relative to the folder, with slashes.
        apart: Names of files and folders directly in the folder that are ignored. Names that start with a dot are
            always ignored, because no manifest can name them.

    Returns:
        The names, sorted.
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
