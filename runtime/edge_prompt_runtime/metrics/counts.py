"""Counts calls when they end, by method and by task, in bounded memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter_ns
from typing import Protocol

from edge_prompt_runtime.metrics.histogram import Histogram
from edge_prompt_runtime.metrics.stats import TaskTraffic, Traffic, latency_of


class Named(Protocol):
    """Something that calls are counted by: a task."""

    @property
    def name(self) -> str:
        """Name of the task; empty for the base model."""


class Call:
    """One call while it runs. Used by one thread at a time.

    Attributes:
        method: Name of the method.
        began_ns: Start of the call, by `perf_counter_ns`.
        tasks: The task of each row, once known.
        first_piece_ns: Time from the start to the first piece of text; None if there was no piece.
        tokens: Number of tokens that the call generated.
        streams: Whether the call ends with its last piece instead of the return of the method.
        ended: Whether the call was counted.
    """

    __slots__ = ("began_ns", "ended", "first_piece_ns", "method", "streams", "tasks", "tokens")

    def __init__(self, method: str) -> None:
        self.method = method
        self.tasks: Sequence[Named] = ()
        self.first_piece_ns: int | None = None
        self.tokens = 0
        self.streams = self.ended = False
        self.began_ns = perf_counter_ns()


class Counts:
    """Calls of one method or task."""

    __slots__ = ("errors", "histogram", "requests", "rows")

    def __init__(self) -> None:
        self.requests = self.rows = self.errors = 0
        self.histogram = Histogram()

    def add(self, rows: int, duration_ns: int | None) -> None:
        """Count a call; a duration of None means that it ended with an error."""
        self.requests += 1
        self.rows += rows
        if duration_ns is None:
            self.errors += 1
        else:
            self.histogram.record(duration_ns)

    def merge(self, other: Counts) -> None:
        """Add the counts of `other`."""
        self.requests += other.requests
        self.rows += other.rows
        self.errors += other.errors
        self.histogram.merge(other.histogram)

    def traffic(self) -> Traffic:
        """Return the current counts."""
        return Traffic(self.requests, self.rows, self.errors, latency_of(self.histogram))


class TaskCounts:
    """Calls by task: separate counts for the first `most` requested tasks, shared counts for all others.

    Args:
        most: Maximum number of tasks with separate counts.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._by_name: dict[str, Counts] = {}
        self._other = Counts()

    def add(self, tasks: Sequence[Named], duration_ns: int | None) -> None:
        """Count a call whose rows belong to `tasks`."""
        if len(tasks) == 1:
            self._of(tasks[0].name).add(1, duration_ns)
            return
        rows: dict[str, int] = {}
        for task in tasks:
            rows[task.name] = rows.get(task.name, 0) + 1
        for counts, number in self._together(rows).items():
            counts.add(number, duration_ns)

    def forget(self, name: str) -> None:
        """Move the counts of a task to the shared counts, so that another task can have separate ones."""
        counts = self._by_name.pop(name, None)
        if counts is not None:
            self._other.merge(counts)

    def traffic(self) -> tuple[tuple[TaskTraffic, ...], Traffic]:
        """Return the traffic of each task with separate counts, and of all others together."""
        tasks = []
        for name, counts in self._by_name.items():
            found = counts.traffic()
            tasks.append(TaskTraffic(found.requests, found.rows, found.errors, found.latency, name or None))
        return tuple(tasks), self._other.traffic()

    def _together(self, rows: Mapping[str, int]) -> dict[Counts, int]:
        """Rows by the counts they belong to: a call is counted once in each, however many of its tasks share them."""
        found: dict[Counts, int] = {}
        for name, number in rows.items():
            counts = self._of(name)
            found[counts] = found.get(counts, 0) + number
        return found

    def _of(self, name: str) -> Counts:
        counts = self._by_name.get(name)
        if counts is None:
            if len(self._by_name) >= self._most:
                return self._other
            counts = self._by_name[name] = Counts()
        return counts
