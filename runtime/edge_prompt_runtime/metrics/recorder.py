"""Records the calls of a runtime, and logs and counts loads, replacements, evictions and refusals of prompts."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from threading import Lock
from time import monotonic, perf_counter_ns

from edge_prompt_runtime.metrics.call import Call
from edge_prompt_runtime.metrics.counts import Counts, TaskCounts
from edge_prompt_runtime.metrics.histogram import Histogram
from edge_prompt_runtime.metrics.stats import Refusal, Stats, latency_of

LOG = logging.getLogger("edge_prompt.tasks")

MOST_TASKS = 256
"""Maximum number of tasks with separate counts, at 3.4 kB each."""

MOST_ERRORS = 32
"""Maximum number of error classes with separate counts; further classes count as `other`."""

MOST_REFUSALS = 16
"""Number of most recent refusals that are kept with their reasons."""

MOST_UNCOUNTED = 16
"""Number of ended calls that are counted together: after a run, when caches are cold, counting takes as long as one
percent of a short request."""

LONGEST_REASON = 500


class Recorder:
    """Counts calls and events. Thread-safe; no thread ever waits to have a call counted.

    Args:
        most_tasks: Maximum number of tasks with separate counts.
    """

    def __init__(self, most_tasks: int = MOST_TASKS) -> None:
        self._since, self._began_s = _now(), monotonic()
        self._lock = Lock()
        self._ended: deque[tuple[Call, list[str], int | None, str]] = deque()
        self._calls: dict[str, Counts] = {}
        self._tasks = TaskCounts(most_tasks)
        self._errors: Counter[str] = Counter()
        self._first_piece = Histogram()
        self._tokens = 0
        self._events: Counter[str] = Counter()
        self._refusals: deque[Refusal] = deque(maxlen=MOST_REFUSALS)
        self._held: dict[str, Callable[[], int]] = {}

    def loaded(self, name: str, size_bytes: int) -> None:
        """Record that a prompt was read and is served as task `name`."""
        self._happened("loads")
        LOG.info("loaded task %r, %d bytes", name, size_bytes)

    def replaced(self, name: str) -> None:
        """Record that a newly loaded prompt replaced an older one of that name."""
        self._happened("replacements")
        LOG.info("replaced task %r", name)

    def evicted(self, name: str) -> None:
        """Record that a task was evicted because the memory budget was exceeded."""
        self._happened("evictions")
        LOG.info("evicted task %r because the memory budget was exceeded", name)

    def unloaded(self, name: str) -> None:
        """Record that a task is no longer served."""
        self._happened("unloads")
        with self._lock:
            self._count()
            self._tasks.forget(name)
        LOG.info("unloaded task %r", name)

    def refused(self, name: str, error: BaseException) -> None:
        """Record that the prompt of task `name` was refused. A repeated reason is logged at debug level only."""
        refusal = Refusal(_now(), _printable(name)[:LONGEST_REASON], _printable(str(error))[:LONGEST_REASON])
        with self._lock:
            known = any((old.task, old.reason) == (refusal.task, refusal.reason) for old in self._refusals)
            self._refusals.append(refusal)
        self._happened("refusals")
        LOG.log(logging.DEBUG if known else logging.WARNING, "refused task %r: %s", name, refusal.reason)

    def register_memory(self, what: str, size_bytes: Callable[[], int]) -> None:
        """Register `size_bytes`, which `stats` calls to get the memory used for `what`."""
        self._held[what] = size_bytes

    def stats(self) -> Stats:
        """Return the current statistics."""
        held = {what: size_bytes() for what, size_bytes in self._held.items()}
        with self._lock:
            self._count()
            total = Counts()
            for counts in self._calls.values():
                total.merge(counts)
            tasks, other = self._tasks.traffic()
            events = ("loads", "replacements", "unloads", "evictions", "refusals")
            return Stats(
                since=self._since,
                uptime_s=monotonic() - self._began_s,
                total=total.traffic(),
                calls={method: counts.traffic() for method, counts in self._calls.items()},
                tasks=tasks,
                other=other,
                errors=dict(self._errors),
                first_piece=latency_of(self._first_piece),
                tokens=self._tokens,
                recent_refusals=tuple(self._refusals),
                bytes_held=held,
                **{event: self._events[event] for event in events},
            )

    def _happened(self, event: str) -> None:
        with self._lock:
            self._events[event] += 1

    def count(self, call: Call, error: BaseException | None) -> None:
        """Count a call that has ended; see `edge_prompt_runtime.metrics.call.Call`."""
        duration_ns = perf_counter_ns() - call.began_ns if error is None else None
        # names, because calls that are not yet counted must not keep their tasks alive
        tasks = call.tasks
        names = [task.name for task in tasks] if isinstance(tasks, Sequence) else [tasks.name] * max(1, call.rows)
        self._ended.append((call, names, duration_ns, type(error).__name__))
        call.tasks = ()
        # the thread that holds the lock counts every ended call, so other threads and closing streams need not wait
        if len(self._ended) >= MOST_UNCOUNTED and self._lock.acquire(blocking=False):
            try:
                self._count()
            finally:
                self._lock.release()

    def _count(self) -> None:
        """Count the calls that have ended. The caller holds the lock."""
        while self._ended:
            call, names, duration_ns, error = self._ended.popleft()
            counts = self._calls.get(call.method)
            if counts is None:
                counts = self._calls[call.method] = Counts()
            counts.add(len(names), duration_ns)
            self._tasks.add(names, duration_ns)
            if duration_ns is None:
                known = error in self._errors or len(self._errors) < MOST_ERRORS
                self._errors[error if known else "other"] += 1
            if call.first_piece_ns is not None:
                self._first_piece.record(call.first_piece_ns)
                self._tokens += call.tokens


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _printable(text: str) -> str:
    """Escape unprintable characters, so that the text stays on one line."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
