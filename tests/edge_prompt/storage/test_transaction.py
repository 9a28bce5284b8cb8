from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event

import pytest

from edge_prompt import read_prompt
from edge_prompt.base.errors import CardError, MissingFileError
from edge_prompt.storage.transaction import pending_path
from tests.plugs.writers import FILES, NEW, NEWEST, OLD, half_replaced, prompt, state_of_prompt

TIMES = 60


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_reader_during_replacement_finds_a_complete_prompt(tmp_path: Path) -> None:
    prompt(OLD, tmp_path)
    over, found = Event(), []

    def read() -> None:
        while not over.is_set():
            found.append(state_of_prompt(tmp_path))

    with ThreadPoolExecutor(2) as pool:
        readers = [pool.submit(read) for _ in range(2)]
        try:
            for number in range(TIMES):
                prompt((OLD, NEW, NEWEST)[number % 3], tmp_path, head=number % 2 == 0)
        finally:
            over.set()
        for reader in readers:
            reader.result()
    assert {state for state, _ in found} <= {OLD, NEW, NEWEST}
    assert len(found) > TIMES / 10


def test_concurrent_writers_leave_one_prompt_and_nothing_else(tmp_path: Path) -> None:
    def write(state: int) -> None:
        for number in range(TIMES // 3):
            prompt(state, tmp_path, head=number % 2 == 0)

    with ThreadPoolExecutor(3) as pool:
        for _ in pool.map(write, (OLD, NEW, NEWEST)):
            pass
    assert state_of_prompt(tmp_path)[0] in {OLD, NEW, NEWEST}
    assert names_in(tmp_path) == FILES


def test_a_prompt_that_was_half_replaced_is_read_where_nothing_can_be_written(tmp_path: Path) -> None:
    half_replaced(tmp_path)
    before = names_in(tmp_path)
    found = read_prompt(tmp_path / "x.npy")
    assert set(found.sha256) == FILES
    assert state_of_prompt(tmp_path) == (OLD, True)
    assert names_in(tmp_path) == before


@pytest.mark.parametrize("name", ["x.npy", "x.head.npz"])
def test_a_pending_file_that_no_card_names_is_not_read(tmp_path: Path, name: str) -> None:
    half_replaced(tmp_path)
    pending = pending_path(tmp_path / name)
    pending.write_bytes(pending.read_bytes() + b"\0")
    with pytest.raises((CardError, MissingFileError)):
        read_prompt(tmp_path / "x.npy")


@pytest.mark.parametrize("name", ["x.npy", "x.head.npz"])
def test_a_link_in_the_place_of_what_is_pending_is_not_followed(tmp_path: Path, name: str) -> None:
    half_replaced(tmp_path)
    pending = pending_path(tmp_path / name)
    pending.rename(tmp_path / "other")
    pending.symlink_to("other")
    with pytest.raises((CardError, MissingFileError)):
        read_prompt(tmp_path / "x.npy")
