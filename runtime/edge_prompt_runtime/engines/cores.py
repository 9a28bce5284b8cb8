"""The cores that a thread computes on, on systems where it can choose them (Linux)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from edge_prompt.base.errors import InputError

CAN_CHOOSE = hasattr(os, "sched_setaffinity")
"""Whether threads can choose their cores on this system."""


def available_cores() -> frozenset[int]:
    """Return the cores that this thread may use."""
    return frozenset(os.sched_getaffinity(0)) if CAN_CHOOSE else frozenset(range(os.cpu_count() or 1))


@contextmanager
def running_on(cores: Iterable[int] | None) -> Iterator[None]:
    """Pin this thread, and the threads that it starts meanwhile, to `cores`; None changes nothing."""
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
    """Convert cores to the form of `EngineOptions`; None is all.

    Raises:
        InputError: The value is not iterable.
    """
    try:
        return None if cores is None else tuple(cores)
    except TypeError as error:
        raise InputError(
            found=f"cores={cores!r} is not a list", wanted="a list of numbers", remedy="pass a list, such as [2, 3]"
        ) from error


def require_cores(cores: tuple[int, ...]) -> None:
    """Check that this process can compute on the cores.

    Raises:
        InputError: Threads cannot choose their cores on this system, or the process may not use these cores.
    """
    if not CAN_CHOOSE:
        raise InputError(
            found="cores were set on a system where threads cannot choose their cores",
            wanted="Linux",
            remedy="leave the cores out, or set the number of threads",
        )
    available = available_cores()
    if not cores or not all(type(core) is int for core in cores) or not set(cores) <= available:
        raise InputError(
            found=f"this process cannot use the cores {list(cores)}",
            wanted=f"one or more of {described(available)}",
            remedy="choose from these cores",
        )


def described(cores: Iterable[int]) -> str:
    """How messages list cores."""
    return ", ".join(map(str, sorted(cores)))
