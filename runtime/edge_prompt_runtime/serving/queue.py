"""Where requests wait for their batch, and when a batch is full enough to begin."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from threading import Condition
from time import monotonic
from typing import Any, NamedTuple

from edge_prompt.base.errors import ClosedError, QueueFullError
from edge_prompt_runtime.tasks.registry import TaskName


@dataclass(eq=False, frozen=True)
class Row:
    """A request.

    Attributes:
        item: What is asked about.
        task: Its task.
        future: Its answer.
        deadline: When it is dropped unless it has begun, by `time.monotonic`; None is never.
    """

    item: Any
    task: TaskName
    future: Future[Any]
    deadline: float | None

    @property
    def late(self) -> bool:
        """Whether it waited too long."""
        return self.deadline is not None and monotonic() >= self.deadline


class Taken(NamedTuple):
    """Rows that wait no longer.

    Attributes:
        rows: Those that are to run, the oldest first.
        late: Those that waited too long.
    """

    rows: list[Row]
    late: list[Row]


class Waiting:
    """A bounded queue. Any number of threads put rows in; one at a time takes them out, as long as there are any.

    Whoever finds nobody taking has somebody start. A batch begins at once, but for this: those who were answered just
    now often ask again, so after a batch the next one waits until as many wait as were under way, or until the delay
    is over. One who asks alone is never kept waiting.

    Args:
        start: Has somebody call `take` until it gives nothing; called under the lock, and may raise RuntimeError.
        max_rows: The most rows that are taken at a time.
        max_delay_s: How long a batch waits to be full, in seconds.
        max_waiting: The most rows that wait.
    """

    def __init__(self, start: Callable[[], object], *, max_rows: int, max_delay_s: float, max_waiting: int) -> None:
        self._start = start
        self._max_rows = max_rows
        self._max_delay_s = max_delay_s
        self._max_waiting = max_waiting
        self._rows: dict[Future[Any], Row] = {}
        self._changed = Condition()
        self._taking = self._closed = False
        self._expected = 0
        self._gather_until = 0.0

    def __len__(self) -> int:
        """How many wait."""
        return len(self._rows)

    def put(self, row: Row) -> list[Row]:
        """Have `row` wait.

        Returns:
            Rows that waited too long and made room.

        Raises:
            QueueFullError: As many wait as may.
            ClosedError: It was closed, or the interpreter is ending.
        """
        with self._changed:
            if self._closed:
                raise closed()
            late = self._pop_late() if len(self._rows) >= self._max_waiting else []
            if len(self._rows) >= self._max_waiting:
                raise QueueFullError(
                    found=f"{len(self._rows)} requests that wait already",
                    wanted="fewer",
                    remedy="ask again later, or make max_waiting larger",
                )
            if not self._taking:
                try:
                    self._start()
                except RuntimeError as error:
                    raise closed() from error
                self._taking = True
            self._rows[row.future] = row
            if self._full:
                self._changed.notify()
            return late

    def take(self) -> Taken:
        """The rows of the next batch, once it is to begin; with neither rows nor late ones, the caller is to end."""
        with self._changed:
            while not self._full and not self._closed:
                left = self._gather_until - monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            late = self._pop_late()
            rows = list(islice(self._rows.values(), self._max_rows))
            for row in rows:
                del self._rows[row.future]
            self._taking = bool(rows or late)
            return Taken(rows, late)

    def ended(self, rows: int) -> None:
        """A batch of so many rows is answered."""
        with self._changed:
            self._expected = rows + len(self._rows)
            self._gather_until = monotonic() + self._max_delay_s

    def drop(self, future: Future[Any]) -> None:
        """Have the row of `future` wait no longer; nothing if it does not."""
        with self._changed:
            self._rows.pop(future, None)

    def close(self, *, refuse: bool) -> list[Row]:
        """Let nobody wait from now on; the rows that did, if they are to be refused."""
        with self._changed:
            self._closed = True
            rows = list(self._rows.values()) if refuse else []
            if refuse:
                self._rows.clear()
            self._changed.notify()
            return rows

    @property
    def _full(self) -> bool:
        """Whether as many wait as the next batch waits for."""
        return len(self._rows) >= min(self._expected, self._max_rows)

    def _pop_late(self) -> list[Row]:
        late = [row for row in self._rows.values() if row.late]
        for row in late:
            del self._rows[row.future]
        return late


def closed() -> ClosedError:
    """What is raised once a batcher was closed."""
    return ClosedError(
        found="a request to a batcher that was closed",
        wanted="an open one",
        remedy="close it after the last request, or make another",
    )
