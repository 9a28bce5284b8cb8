"""The cores that a thread computes on, where the system lets it choose: on Linux."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from edge_prompt.base.errors import InputError

CAN_CHOOSE = hasattr(os, "sched_setaffinity")
"""Whether the system lets threads choose their cores."""


def available_cores() -> frozenset[int]:
    """The cores that this thread may use."""
    return frozenset(os.sched_getaffinity(0)) if CAN_CHOOSE else frozenset(range(os.cpu_count() or 1))


@contextmanager
def running_on(cores: Iterable[int] | None) -> Iterator[None]:
    """Keep this thread, and those that it starts meanwhile, on `cores`; None leaves it where it is."""
    before = available_cores()
    if cores is None or before <= frozenset(cores):
        yield
        return
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def cores_of(cores: Iterable[int] | None) -> tuple[int, ...] | None:
    """Cores as settings have them; None is all.

    Raises:
        InputError: They are not several.
    """
    try:
        return None if cores is None else tuple(cores)
    except TypeError as error:
        raise InputError(
            found=f"the cores {cores!r}", wanted="a list of numbers", remedy="pass a list, such as [2, 3]"
        ) from error


def require_cores(cores: tuple[int, ...]) -> None:
    """Refuse cores that nothing can be computed on.

    Raises:
        InputError: The system lets nobody choose, or they are not cores of this process.
    """
    if not CAN_CHOOSE:
        raise InputError(
            found="cores on a system where a thread cannot choose them",
            wanted="Linux",
            remedy="leave the cores out, or say how many threads",
        )
    available = available_cores()
    if not cores or not all(type(core) is int for core in cores) or not set(cores) <= available:
        raise InputError(
            found=f"the cores {list(cores)}",
            wanted=f"some of {said(available)}, which this process may use",
            remedy="choose from them",
        )


def said(cores: Iterable[int]) -> str:
    """Cores as a message names them."""
    return ", ".join(map(str, sorted(cores)))
