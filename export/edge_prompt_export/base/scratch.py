"""Where libraries keep their temporary files while a bundle is written."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def scratch_in(folder: Path) -> Iterator[None]:
    """Temporary files of the whole process lie in `folder` until the block ends; then they are gone.

    So the room that they need is asked of the disk that was chosen to be written to, and if the process is killed they
    go with the rest of what it began.
    """
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(dir=folder, prefix=".scratch-") as name:
        tempfile.tempdir = name
        try:
            yield
        finally:
            tempfile.tempdir = before
