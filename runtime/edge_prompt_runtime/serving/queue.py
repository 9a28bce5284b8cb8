"""The queue of requests, which decides when a batch starts."""

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
class QueuedRequest:
    """A request.

    Attributes:
        item: The input.
        task: The task.
        future: The future answer.
        deadline: The `time.monotonic` value at which it is dropped unless it has started; None means never.
    """

    item: Any
    task: TaskName
    future: Future[Any]
    deadline: float | None

    @property
    def late(self) -> bool:
        """Whether the deadline has passed."""
        return self.deadline is not None and monotonic() >= self.deadline


class Batch(NamedTuple):
    """Rows taken from the queue.

    Attributes:
        rows: The rows to run, oldest first.
        late: The rows whose deadline has passed.
    """

    rows: list[QueuedRequest]
    late: list[QueuedRequest]


class RequestQueue:
    """A bounded queue. Any number of threads add rows; one thread at a time takes them, until the queue is empty.

    Adding a row starts a consumer if none is running. The first batch starts immediately. Callers that have just been
    answered often send another request, so the next batch waits until as many rows are queued as were in progress, or
    until the delay is over. A caller that sends one request at a time never waits.

    Args:
        start: Starts a consumer, which calls `take` until it returns nothing. It is called with the lock held, and may
            raise RuntimeError.
        max_rows: The maximum number of rows per batch.
        max_delay_s: How long a batch waits to fill up, in seconds.
        max_waiting: The maximum number of queued rows.
    """

    def __init__(self, start: Callable[[], object], *, max_rows: int, max_delay_s: float, max_waiting: int) -> None:
        self._start = start
        self._max_rows = max_rows
        self._max_delay_s = max_delay_s
        self._max_waiting = max_waiting
        self._rows: dict[Future[Any], QueuedRequest] = {}
        self._changed = Condition()
        self._taking = self._closed = False
        self._expected = 0
        self._gather_until = 0.0

    def __len__(self) -> int:
        """The number of queued rows."""
        return len(self._rows)

    def put(self, row: QueuedRequest) -> list[QueuedRequest]:
        """Add `row` to the queue.

        Returns:
            Rows whose deadline has passed, which were removed to make room.

        Raises:
            QueueFullError: The queue is full.
            ClosedError: The queue was closed, or the interpreter is shutting down.
        """
        with self._changed:
            if self._closed:
                raise closed()
            late = self._pop_late() if len(self._rows) >= self._max_waiting else []
            if len(self._rows) >= self._max_waiting:
                raise QueueFullError(
                    found=f"the queue is full ({len(self._rows)} requests waiting)",
                    wanted=f"fewer than max_waiting={self._max_waiting}",
                    remedy="try again later, or increase max_waiting",
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

    def take(self) -> Batch:
        """Wait for the next batch and return its rows. If there are neither rows nor late ones, the consumer ends."""
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
            return Batch(rows, late)

    def ended(self, rows: int) -> None:
        """Record that a batch of `rows` rows has been answered."""
        with self._changed:
            self._expected = rows + len(self._rows)
            self._gather_until = monotonic() + self._max_delay_s

    def drop(self, future: Future[Any]) -> None:
        """Remove the row of `future` if it is queued."""
        with self._changed:
            self._rows.pop(future, None)

    def close(self, *, refuse: bool) -> list[QueuedRequest]:
        """Close the queue. If `refuse`, remove the queued rows and return them."""
        with self._changed:
            self._closed = True
            rows = list(self._rows.values()) if refuse else []
            if refuse:
                self._rows.clear()
            self._changed.notify()
            return rows

    @property
    def _full(self) -> bool:
        """Whether enough rows are queued for the next batch."""
        return len(self._rows) >= min(self._expected, self._max_rows)

    def _pop_late(self) -> list[QueuedRequest]:
        late = [row for row in self._rows.values() if row.late]
        for row in late:
            del self._rows[row.future]
        return late


def closed() -> ClosedError:
    """Return the error for a request to a closed batcher."""
    return ClosedError(
        found="a request to a closed batcher",
        wanted="an open batcher",
        remedy="close it after the last request, or create a new one",
    )
