"""The contract's writers for `tests.plugs.stepping`: the old state, the write, and how the result is read."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edge_prompt import Head, read_prompt, write_prompt
from edge_prompt.base.errors import CardError, MissingFileError
from edge_prompt.storage.files import folder_written_atomically, read_json, write_json
from edge_prompt.storage.transaction import pending_path
from edge_prompt.untrusted.npy import read_npy, read_npz, write_npy, write_npz

Step = Callable[[Path], object]


class Writer(NamedTuple):
    """A writer: its preparation, the write that is killed, one that is not, and the function that reads the state."""

    prepare: Step
    write: Step
    write_again: Step
    read: Callable[[Path], Hashable]
    new: Hashable
    newest: Hashable
    names: set[str]


OLD, NEW, NEWEST = 1, 2, 3
"""What the numbers of a file say it is; 0 is nothing."""

FILES = {"x.npy", "x.json", "x.head.npz"}


def array(state: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return the array of a state; each state also has its own shape."""
    return np.full((state, 3), state, np.float32)


def prompt(state: int, folder: Path, *, head: bool = True) -> None:
    """Write a prompt with or without a head."""
    labels = (f"a{state}", f"b{state}")
    own = Head(np.full((2, 4), state, np.float32), np.full(2, state, np.float32)) if head else None
    write_prompt(folder / "x.npy", array(state), "soft", f"{state}" * 64, head=own, labels=labels)


def state_of_prompt(folder: Path) -> tuple[int, bool]:
    """Return which prompt is there, and whether with a head; a mixture of two is an error."""
    try:
        found = read_prompt(folder / "x.npy")
    except MissingFileError:
        return 0, False
    state = len(found.array)
    np.testing.assert_array_equal(found.array, array(state))
    if found.card is None:
        return state, False
    assert found.card.fingerprint == f"{state}" * 64
    assert found.card.labels == (f"a{state}", f"b{state}")
    if found.head is not None:
        np.testing.assert_array_equal(found.head.weight, np.full((2, 4), state, np.float32))
    return state, found.head is not None


def prompts(prepare: Step, *, head: bool = True, head_again: bool = True) -> Writer:
    """Write a prompt over the result of `prepare`."""
    return Writer(
        prepare,
        partial(prompt, NEW, head=head),
        partial(prompt, NEWEST, head=head_again),
        state_of_prompt,
        (NEW, head),
        (NEWEST, head_again),
        FILES,
    )


def half_replaced(folder: Path) -> None:
    """The state after a writer was killed after the card: the new files do not have their final names yet."""
    prompt(OLD, folder)
    for name in ("x.npy", "x.head.npz"):
        (folder / name).rename(pending_path(folder / name))
    write_npy(folder / "x.npy", array(NEWEST + 1))


def not_replaced(folder: Path) -> None:
    """The state after a writer was killed before the card: files that no card names."""
    prompt(OLD, folder)
    for name in ("x.npy", "x.head.npz"):
        pending_path(folder / name).write_bytes(b"of a writer that was killed")


def write_folder(state: int, folder: Path) -> None:
    """Write a folder with files and folders; an existing one is removed first, because it is never overwritten."""
    with folder_written_atomically(folder / "out") as inner:
        (inner / "deeper").mkdir()
        for name in ("a", "deeper/b"):
            (inner / name).write_text(str(state))


def write_folder_again(folder: Path) -> None:
    """Write it again, unless it exists."""
    if not (folder / "out").exists():
        write_folder(NEW, folder)


def state_of_folder(folder: Path) -> int:
    """Return which folder is there; 0 if none."""
    if not (folder / "out").exists():
        return 0
    texts = {(folder / "out" / name).read_text() for name in ("a", "deeper/b")}
    assert len(texts) == 1
    return int(texts.pop())


def state_of_json(folder: Path) -> int:
    """Return which JSON file is there."""
    return int(read_json(folder / "x.json", CardError)["state"])


def single(name: str, write: Callable[[Path, int], object], read: Callable[[Path], Hashable]) -> Writer:
    """Write one file."""

    def of(state: int) -> Step:
        return lambda folder: write(folder / name, state)

    return Writer(of(OLD), of(NEW), of(NEWEST), lambda folder: read(folder / name), NEW, NEWEST, {name})


WRITERS: dict[str, Writer] = {
    "json": single(
        "x.json", lambda path, state: write_json(path, {"state": state}), lambda path: state_of_json(path.parent)
    ),
    "npy": single("x.npy", lambda path, state: write_npy(path, array(state)), lambda path: len(read_npy(path))),
    "npz": single(
        "x.npz",
        lambda path, state: write_npz(path, {"a": array(state), "b": array(state)}),
        lambda path: len(read_npz(path, frozenset("ab"))["b"]),
    ),
    "folder": Writer(
        lambda _: None, partial(write_folder, NEW), write_folder_again, state_of_folder, NEW, NEW, {"out"}
    ),
    "first prompt": prompts(lambda _: None),
    "prompt": prompts(partial(prompt, OLD)),
    "prompt that loses its head": prompts(partial(prompt, OLD), head=False),
    "prompt that gets a head": prompts(partial(prompt, OLD, head=False)),
    "prompt over a bare array": prompts(lambda folder: write_npy(folder / "x.npy", array(OLD))),
    "prompt over one half replaced": prompts(half_replaced),
    "headless prompt over one half replaced": prompts(half_replaced, head=False, head_again=False),
    "prompt over one not replaced": prompts(not_replaced, head=False, head_again=False),
}
