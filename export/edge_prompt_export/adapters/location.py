"""Where an adapter is: a local folder, or a name on the hub, of which only the adapter's own files are fetched."""

from __future__ import annotations

import re
from pathlib import Path

from edge_prompt.base.errors import MissingFileError
from edge_prompt_export.adapters.adapter_files import FILE_NAMES

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def adapter_folder(adapter: str, revision: str | None, cache_dir: str | None) -> Path:
    """The folder of an adapter, fetched from the hub if it is a name there and no path here.

    Args:
        adapter: A local folder, or `organisation/name` on the hub.
        revision: Branch, tag or commit on the hub.
        cache_dir: Where downloads are kept.

    Raises:
        MissingFileError: It is neither, or the hub does not give it.
    """
    folder = Path(adapter)
    if folder.exists() or not _HUB_NAME.fullmatch(adapter):
        return folder
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - of no use to a folder, and it takes a second

    try:
        return Path(snapshot_download(adapter, revision=revision, cache_dir=cache_dir, allow_patterns=list(FILE_NAMES)))
    except Exception as error:  # the hub, the network and the cache each have their own
        raise MissingFileError(
            found=f"{adapter}: no such folder, and the hub does not give it ({' '.join(str(error).split())[:200]})",
            wanted="the folder of an adapter, or its name on the hub",
            remedy="check the name and the network",
        ) from error
