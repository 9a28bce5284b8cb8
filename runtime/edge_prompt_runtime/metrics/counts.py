"""Counting calls as they end: by method and by task, in a bounded number of places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import perf_counter_ns
from typing import Protocol

from edge_prompt_runtime.metrics.histogram import Histogram
from edge_prompt_runtime.metrics.stats import TaskTraffic, Traffic, latency_of


class Named(Protocol):
    """What calls are counted by: a task."""

    @property
    def name(self) -> str:
        """Its name; empty for the base model."""


class Call:
    """One call, while it runs. One thread at a time uses it.

    Attributes:
        method: The name of the method.
        began_ns: When it began, of `perf_counter_ns`.
        tasks: The task of each row, once that is known.
        first_piece_ns: From its beginning to its first piece of text; None if it gave none.
        tokens: How many tokens it generated.
        streams: Whether it ends with its pieces and not with the method.
        ended: Whether it was counted.
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
        """Count a call; None is one that ended with an error."""
        self.requests += 1
        self.rows += rows
        if duration_ns is None:
            self.errors += 1
        else:
            self.histogram.record(duration_ns)

    def merge(self, other: Counts) -> None:
        """Count what `other` has counted."""
        self.requests += other.requests
        self.rows += other.rows
        self.errors += other.errors
        self.histogram.merge(other.histogram)

    def traffic(self) -> Traffic:
        """As it is now."""
        return Traffic(self.requests, self.rows, self.errors, latency_of(self.histogram))


class TaskCounts:
    """Calls by task: of the first `most` tasks that were asked for each, of the others together.

    Args:
        most: How many tasks.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._by_name: dict[str, Counts] = {}
        self._other = Counts()

    def add(self, tasks: Sequence[Named], duration_ns: int | None) -> None:
        """Count a call with rows of `tasks`."""
        if len(tasks) == 1:
            self._of(tasks[0].name).add(1, duration_ns)
            return
        rows: dict[str, int] = {}
        for task in tasks:
            rows[task.name] = rows.get(task.name, 0) + 1
        for counts, number in self._together(rows).items():
            counts.add(number, duration_ns)

    def forget(self, name: str) -> None:
        """Count the calls of a task among the others from now on, so that another finds room."""
        counts = self._by_name.pop(name, None)
        if counts is not None:
            self._other.merge(counts)

    def traffic(self) -> tuple[tuple[TaskTraffic, ...], Traffic]:
        """Each task, and the others together."""
        tasks = []
        for name, counts in self._by_name.items():
            found = counts.traffic()
            tasks.append(TaskTraffic(found.requests, found.rows, found.errors, found.latency, name or None))
        return tuple(tasks), self._other.traffic()

    def _together(self, rows: Mapping[str, int]) -> dict[Counts, int]:
        """Rows by where they count: a call counts once there, whatever tasks it had."""
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
