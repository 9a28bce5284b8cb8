"""What is recorded while a runtime answers: calls, and what became of prompts. It is logged as it happens."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from datetime import UTC, datetime
from threading import Lock, local
from time import monotonic, perf_counter_ns
from typing import TYPE_CHECKING

from edge_prompt_runtime.metrics.counts import Call, Counts, Named, TaskCounts
from edge_prompt_runtime.metrics.histogram import Histogram
from edge_prompt_runtime.metrics.stats import Refusal, Stats, latency_of

if TYPE_CHECKING:
    from edge_prompt_runtime.generation.results import Piece

LOG = logging.getLogger("edge_prompt.tasks")

MOST_TASKS = 256
"""Tasks whose calls are counted by themselves, at 3.4 kB each."""

MOST_ERRORS = 32
"""Classes of errors that are counted by themselves; those beyond are `other`."""

MOST_REFUSALS = 16
"""Refusals that are remembered with their reasons."""

LONGEST_REASON = 500


class Recorder:
    """Counts what happens. Any number of threads may use one, and none ever waits to have a call counted.

    Args:
        most_tasks: Tasks whose calls are counted by themselves.
    """

    def __init__(self, most_tasks: int = MOST_TASKS) -> None:
        self._since, self._began_s = _now(), monotonic()
        self._lock = Lock()
        self._here = local()
        self._ended: deque[tuple[Call, int | None, str]] = deque()
        self._calls: dict[str, Counts] = {}
        self._tasks = TaskCounts(most_tasks)
        self._errors: Counter[str] = Counter()
        self._first_piece = Histogram()
        self._tokens = 0
        self._events: Counter[str] = Counter()
        self._refusals: deque[Refusal] = deque(maxlen=MOST_REFUSALS)
        self._held: dict[str, Callable[[], int]] = {}

    def begin(self, method: str) -> Call:
        """A call begins, which this thread is in until the next one."""
        call: Call = Call(method)
        self._here.call = call
        return call

    def asked(self, tasks: Sequence[Named]) -> None:
        """The call that this thread is in has rows of `tasks`."""
        call: Call | None = getattr(self._here, "call", None)
        if call is not None and not call.ended:
            call.tasks = tasks

    def end(self, call: Call, error: BaseException | None = None) -> None:
        """The call has ended; the first end counts."""
        if call.ended:
            return
        call.ended = True
        failed = error is not None
        self._ended.append((call, None if failed else perf_counter_ns() - call.began_ns, type(error).__name__))
        # who counts, counts all: a thread that comes meanwhile goes on, and so does a stream that is let go meanwhile
        if self._lock.acquire(blocking=False):
            try:
                self._count()
            finally:
                self._lock.release()

    def watched(self, pieces: Generator[Piece]) -> Generator[Piece]:
        """The pieces of the call that this thread is in, which ends with them."""
        call: Call = self._here.call
        call.streams = True
        return self._watch(call, pieces)

    def loaded(self, name: str, size_bytes: int) -> None:
        """A prompt was read and is served as task `name`."""
        self._happened("loads")
        LOG.info("loaded task %r, %d bytes", name, size_bytes)

    def replaced(self, name: str) -> None:
        """What was loaded last took the place of an older prompt of that name."""
        self._happened("replacements")
        LOG.info("replaced task %r", name)

    def evicted(self, name: str) -> None:
        """A task was let go for want of room."""
        self._happened("evictions")
        LOG.info("let go of task %r for want of room", name)

    def unloaded(self, name: str) -> None:
        """A task is served no longer."""
        self._happened("unloads")
        with self._lock:
            self._count()
            self._tasks.forget(name)
        LOG.info("unloaded task %r", name)

    def refused(self, name: str, error: BaseException) -> None:
        """A prompt was not taken as task `name`. The same reason is a warning once, and then for those who debug."""
        refusal = Refusal(_now(), _printable(name)[:LONGEST_REASON], _printable(str(error))[:LONGEST_REASON])
        with self._lock:
            known = any((old.task, old.reason) == (refusal.task, refusal.reason) for old in self._refusals)
            self._refusals.append(refusal)
        self._happened("refusals")
        LOG.log(logging.DEBUG if known else logging.WARNING, "refused task %r: %s", name, refusal.reason)

    def holds(self, what: str, size_bytes: Callable[[], int]) -> None:
        """Ask `size_bytes` how many bytes are held of `what`, whenever stats are asked for."""
        self._held[what] = size_bytes

    def stats(self) -> Stats:
        """All figures as they are now."""
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

    def _watch(self, call: Call, pieces: Generator[Piece]) -> Generator[Piece]:
        try:
            for piece in pieces:
                if call.first_piece_ns is None:
                    call.first_piece_ns = perf_counter_ns() - call.began_ns
                call.tokens += piece.token is not None
                yield piece
        except GeneratorExit:
            raise  # the caller has enough, which is no error
        except BaseException as error:
            self.end(call, error)
            raise
        finally:
            pieces.close()
            self.end(call)

    def _count(self) -> None:
        """Count the calls that have ended; whoever calls this holds the lock."""
        while self._ended:
            call, duration_ns, error = self._ended.popleft()
            counts = self._calls.get(call.method)
            if counts is None:
                counts = self._calls[call.method] = Counts()
            counts.add(len(call.tasks), duration_ns)
            self._tasks.add(call.tasks, duration_ns)
            call.tasks = ()  # its thread may remember the call for long, but the tasks may be let go
            if duration_ns is None:
                known = error in self._errors or len(self._errors) < MOST_ERRORS
                self._errors[error if known else "other"] += 1
            if call.first_piece_ns is not None:
                self._first_piece.record(call.first_piece_ns)
                self._tokens += call.tokens


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _printable(text: str) -> str:
    """Text that stays on its line, wherever it is shown."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
