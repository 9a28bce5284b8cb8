"""Folders of prompts: looks up the file of a prompt by its name, without reading or caching anything."""

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
from edge_prompt.storage.files import FileStat, stat_inside, stat_of

FileStamp = tuple[FileStat | None, ...]
"""Identifies the current files of a prompt, so that replaced files are noticed; None for a file that is missing."""

_COMPANION_SUFFIXES = (CARD_SUFFIX, HEAD_SUFFIX)
"""Suffixes of a prompt's other files, except its signature."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,121}")
"""File names that are accepted, without the suffix; see `edge_prompt.storage.files.stat_inside`."""


class FoundPrompt(NamedTuple):
    """A prompt in a folder.

    Attributes:
        path: Its file.
        signature: The current state of all files that belong to it.
    """

    path: Path
    signature: FileStamp


class PromptFolders:
    """Prompts by file name without the suffix. If two folders have the same name, the first folder wins.

    Args:
        folders: The folders.
        signed: Whether prompts must be signed; then their signature files belong to them.

    Raises:
        MissingFileError: A folder does not exist.
    """

    def __init__(self, folders: Sequence[Path], *, signed: bool = False) -> None:
        for folder in folders:
            if not folder.is_dir():
                raise MissingFileError(
                    found=f"{folder}: no such folder", wanted="a folder of prompts", remedy="check the path"
                )
        self.folders = tuple(folders)
        self._companions = (*_COMPANION_SUFFIXES, SIGNATURE_SUFFIX) if signed else _COMPANION_SUFFIXES

    def find(self, name: str) -> FoundPrompt | None:
        """Return the prompt called `name`; None if there is none, or if the name is not a valid file name.

        Raises:
            UnsafePathError: The file is a link that points outside its folder.
        """
        if not _NAME.fullmatch(name):
            return None
        for folder in self.folders:
            path = folder / (name + PROMPT_SUFFIX)
            state = stat_inside(path)
            if state is not None:
                stem = os.fspath(path).removesuffix(PROMPT_SUFFIX)
                return FoundPrompt(path, (state, *[stat_of(stem + suffix) for suffix in self._companions]))
        return None

    def names(self) -> list[str]:
        """Return the names of all prompts, sorted."""
        found: set[str] = set()
        for folder in self.folders:
            with os.scandir(folder) as entries:
                names = (entry.name[: -len(PROMPT_SUFFIX)] for entry in entries if entry.name.endswith(PROMPT_SUFFIX))
                found.update(name for name in names if _NAME.fullmatch(name))
        return sorted(found)
