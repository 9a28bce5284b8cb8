"""Folders of prompts: the file of a name, found when it is asked for. Nothing is read and nothing is remembered."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from edge_prompt.base.errors import MissingFileError
from edge_prompt.formats.card import CARD_SUFFIX
from edge_prompt.formats.prompt import HEAD_SUFFIX, PROMPT_SUFFIX
from edge_prompt.formats.signed_files import SIGNATURE_SUFFIX
from edge_prompt.storage.files import FileState, state_inside, state_of

Signature = tuple[FileState | None, ...]
"""What tells the files of a prompt from those that replace them; None for what is not there."""

_BESIDE = (CARD_SUFFIX, HEAD_SUFFIX)
"""What ends the names of a prompt's other files, but for its signature."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,121}")
"""What may be a file's name without the suffix; see `edge_prompt.storage.files.state_inside`."""


class Found(NamedTuple):
    """A prompt of a folder.

    Attributes:
        path: Of its file.
        signature: Of its files as they are now, all that belong to it.
    """

    path: Path
    signature: Signature


class PromptFolders:
    """Prompts by the names of their files, without the suffix; where two folders have one, the first folder's is it.

    Args:
        folders: The folders.
        signed: Whether prompts must be signed, so that their signatures belong to them.

    Raises:
        MissingFileError: There is no such folder.
    """

    def __init__(self, folders: Sequence[Path], *, signed: bool = False) -> None:
        for folder in folders:
            if not folder.is_dir():
                raise MissingFileError(
                    found=f"{folder}: no such folder", wanted="a folder of prompts", remedy="check the path"
                )
        self.folders = tuple(folders)
        self._beside = (*_BESIDE, SIGNATURE_SUFFIX) if signed else _BESIDE

    def find(self, name: str) -> Found | None:
        """The prompt of `name`; None if there is none, or if that is no name for a file.

        Raises:
            UnsafePathError: It is a link that leads out of its folder.
        """
        if not _NAME.fullmatch(name):
            return None
        for folder in self.folders:
            path = folder / (name + PROMPT_SUFFIX)
            state = state_inside(path)
            if state is not None:
                stem = os.fspath(path).removesuffix(PROMPT_SUFFIX)
                return Found(path, (state, *[state_of(stem + suffix) for suffix in self._beside]))
        return None

    def names(self) -> list[str]:
        """The names of all, sorted."""
        found: set[str] = set()
        for folder in self.folders:
            with os.scandir(folder) as entries:
                names = (entry.name[: -len(PROMPT_SUFFIX)] for entry in entries if entry.name.endswith(PROMPT_SUFFIX))
                found.update(name for name in names if _NAME.fullmatch(name))
        return sorted(found)
