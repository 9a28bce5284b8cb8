"""Counts calls when they end, by method and by task, in bounded memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edge_prompt_runtime.metrics.histogram import Histogram
from edge_prompt_runtime.metrics.stats import TaskTraffic, Traffic, latency_of


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

    def add(self, names: Sequence[str], duration_ns: int | None) -> None:
        """Count a call, given the name of the task of each row."""
        if len(names) == 1:
            self._of(names[0]).add(1, duration_ns)
            return
        rows: dict[str, int] = {}
        for name in names:
            rows[name] = rows.get(name, 0) + 1
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
