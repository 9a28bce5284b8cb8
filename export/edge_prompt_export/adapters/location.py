"""Find an adapter in a local folder, or download its files, and no others, from the hub."""

from __future__ import annotations

import re
from pathlib import Path

from edge_prompt.base.errors import MissingFileError
from edge_prompt_export.adapters.adapter_files import FILE_NAMES

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def adapter_folder(adapter: str, revision: str | None, cache_dir: str | None) -> Path:
    """The folder of an adapter; if it is not a local path, the adapter is downloaded from the hub.

    Args:
        adapter: A local folder, or `organisation/name` on the hub.
        revision: Branch, tag or commit on the hub.
        cache_dir: Folder for downloads.

    Raises:
        MissingFileError: There is no such folder, and the adapter cannot be downloaded.
    """
    folder = Path(adapter)
    if folder.exists() or not _HUB_NAME.fullmatch(adapter):
        return folder
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - takes a second, and a local folder does not need it

    try:
        return Path(snapshot_download(adapter, revision=revision, cache_dir=cache_dir, allow_patterns=list(FILE_NAMES)))
    except Exception as error:  # the hub, the network and the cache each have their own classes
        raise MissingFileError(
            found=f"{adapter}: no such folder, and the download failed ({' '.join(str(error).split())[:200]})",
            wanted="the folder of an adapter, or its name on the hub",
            remedy="check the name and the network connection",
        ) from error
