from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge_prompt.storage.temporaries import HAS_LOCKS, PLACES, sole_writer, temporary_file, temporary_folder

locked = pytest.mark.skipif(not HAS_LOCKS, reason="no locks that end with their process")

KILLED = """
import os, signal, sys
from pathlib import Path
from edge_prompt.storage.temporaries import temporary_file, temporary_folder
with temporary_{0}(Path(sys.argv[1])) as made:
    {1}
    os.kill(os.getpid(), signal.SIGKILL)
"""
FILLED = {"file": "made.path.write_text('half')", "folder": "(made.path / 'half').mkdir()"}
MAKES = {"file": temporary_file, "folder": temporary_folder}


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def descriptors() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


@pytest.mark.parametrize("kind", MAKES)
def test_an_unmoved_temporary_is_removed(tmp_path: Path, kind: str) -> None:
    with MAKES[kind](tmp_path / "x") as made:
        assert names_in(tmp_path) == [made.path.name] == [".x.0.tmp"]
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("kind", MAKES)
def test_a_moved_temporary_and_its_successor_stay(tmp_path: Path, kind: str) -> None:
    with MAKES[kind](tmp_path / "x") as first:
        first.move_to(tmp_path / "x")
        with MAKES[kind](tmp_path / "x") as second:
            assert second.path == first.path
            first.discard()
            assert names_in(tmp_path) == [".x.0.tmp", "x"]
    assert names_in(tmp_path) == ["x"]


@locked
@pytest.mark.parametrize("kind", MAKES)
def test_writers_of_one_target_do_not_interfere(tmp_path: Path, kind: str) -> None:
    with MAKES[kind](tmp_path / "x") as first, MAKES[kind](tmp_path / "x") as second:
        assert names_in(tmp_path) == [first.path.name, second.path.name] == [".x.0.tmp", ".x.1.tmp"]
        with MAKES[kind](tmp_path / "y"):
            assert len(names_in(tmp_path)) == 3


@locked
@pytest.mark.parametrize("kind", MAKES)
@pytest.mark.parametrize("again", MAKES)
def test_the_next_writer_removes_what_a_killed_one_left(tmp_path: Path, kind: str, again: str) -> None:
    script = KILLED.format(kind, FILLED[kind])
    with temporary_file(tmp_path / "x"):  # so that the leftover is not only in the first place
        subprocess.run([sys.executable, "-c", script, tmp_path / "x"], check=False)
        assert names_in(tmp_path) == [".x.0.tmp", ".x.1.tmp"]
    with MAKES[again](tmp_path / "x"):
        assert names_in(tmp_path) == [".x.0.tmp"]


@locked
def test_other_files_stay(tmp_path: Path) -> None:
    others = [".x", ".x.0", ".x.0.tmp.1", f".x.{PLACES}.tmp", ".xx.0.tmp", "x.0.tmp", ".y.0.tmp"]
    for name in others:
        (tmp_path / name).touch()
    with temporary_file(tmp_path / "x"):
        pass
    assert names_in(tmp_path) == sorted(others)


@locked
def test_a_link_in_the_place_is_neither_followed_nor_removed(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / ".x.0.tmp").symlink_to("mine")
    with temporary_file(tmp_path / "x") as made:
        assert made.path.name == ".x.1.tmp"
    assert (tmp_path / "mine").read_text() == "mine"


@locked
def test_no_file_is_left_open(tmp_path: Path) -> None:
    before = descriptors()
    for make in MAKES.values():
        (tmp_path / ".x.0.tmp").touch()
        with make(tmp_path / "x"), make(tmp_path / "x"), sole_writer(tmp_path):
            pass
    assert descriptors() == before
