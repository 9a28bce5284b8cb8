"""The folder for libraries' temporary files while a bundle is written."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch_in(folder: Path) -> Iterator[None]:
    """Put the temporary files of the whole process into `folder` until the block ends, then delete them.

    They thus take space on the disk that the user chose to write to. If the process is killed, they are removed
    together with the unfinished output.
    """
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(dir=folder, prefix=".scratch-") as name:
        tempfile.tempdir = name
        try:
            yield
        finally:
            tempfile.tempdir = before
