"""The micro-batcher: single requests of many callers, of whatever tasks, in one batch of the runtime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor, wait
from contextlib import suppress
from threading import TIMEOUT_MAX, Thread, current_thread
from time import monotonic
from typing import Any

import numpy as np

from edge_prompt.base.errors import InputError, RequestTimeoutError
from edge_prompt_runtime.closing import Closing
from edge_prompt_runtime.runtime import Runtime
from edge_prompt_runtime.serving.queue import Row, Waiting, closed
from edge_prompt_runtime.serving.sizes import groups_by_size, longest_row, size_of
from edge_prompt_runtime.tasks.registry import TaskName

CALLS = ("classify", "embed", "label_tokens", "detect", "segment", "generate")
"""Calls of a runtime that take rows, a task each."""

LONGEST_DELAY_MS = 60_000


class Batcher(Closing):
    """Answers single requests as the runtime does, those that come together in one batch. Any number of threads ask.

    Each gets its own row, which is what it would be alone. A request that cannot be answered fails alone: its
    neighbours are asked again without it. One thread runs batches; it is there while there is something to do.

    Args:
        runtime: The runtime; others may ask it meanwhile.
        call: What is asked of it: `classify`, `embed`, `label_tokens`, `detect`, `segment` or `generate`.
        max_rows: The most rows of a batch.
        max_delay_ms: How long a batch waits to be full, in milliseconds. Only a batch that follows another one waits,
            and no longer than until as many wait as were under way; a request that comes alone runs at once.
        max_waiting: The most requests that wait; one more is refused.
        **settings: What every request is asked with: `labels`, `threshold`, or the settings of `generate`.

    Raises:
        InputError: There is no such call, or a number is out of range.
    """

    def __init__(
        self,
        runtime: Runtime,
        call: str = "classify",
        *,
        max_rows: int = 16,
        max_delay_ms: float = 2.0,
        max_waiting: int = 256,
        **settings: Any,
    ) -> None:
        _require(call in CALLS, f"the call {call!r}", f"one of {', '.join(CALLS)}")
        _require(not settings.get("stream"), "stream=True", "whole answers")
        _require(max_rows >= 1, f"max_rows={max_rows}", "at least 1")
        _require(max_waiting >= 1, f"max_waiting={max_waiting}", "at least 1")
        _require(0 <= max_delay_ms <= LONGEST_DELAY_MS, f"max_delay_ms={max_delay_ms}", f"0 to {LONGEST_DELAY_MS}")
        self._call = getattr(runtime, call)
        self._settings = settings
        self._longest = longest_row(runtime.bundle)
        self._pool = ThreadPoolExecutor(1, "edge-prompt-batcher")
        self._thread: Thread | None = None
        self._waiting = Waiting(
            lambda: self._pool.submit(self._run),
            max_rows=max_rows,
            max_delay_s=max_delay_ms / 1000,
            max_waiting=max_waiting,
        )

    @property
    def waiting(self) -> int:
        """How many requests wait now."""
        return len(self._waiting)

    def submit(self, item: Any, task: TaskName = None, timeout_s: float | None = None) -> Future[Any]:
        """Ask about one thing.

        Args:
            item: A text, an image, or what else one row may be.
            task: Its task; None is the base model.
            timeout_s: How long it may wait to begin, in seconds; None is as long as it takes.

        Returns:
            Its answer, or its error; `RequestTimeoutError` if it waited too long. It may be cancelled until it begins.

        Raises:
            QueueFullError: As many requests wait as may.
            ClosedError: The batcher was closed.
            InputError: This is not one thing under one task, or the time is not above 0.
        """
        _require(
            not isinstance(item, Mapping | int | np.integer), f"an item of type {type(item).__name__}", "one thing"
        )
        _require(task is None or isinstance(task, str), f"the task {task!r}", "a name, or None")
        _require(timeout_s is None or 0 < timeout_s <= TIMEOUT_MAX, f"timeout_s={timeout_s}", "seconds, above 0")
        row = Row(item, task, Future(), None if timeout_s is None else monotonic() + timeout_s)
        late = self._waiting.put(row)
        row.future.add_done_callback(self._waiting.drop)  # once it is cancelled, it makes room
        for one in late:
            _fail(one, _too_late())
        return row.future

    def __call__(self, item: Any, task: TaskName = None, timeout_s: float | None = None) -> Any:
        """Ask about one thing and wait for the answer; see `submit`. One that has begun is waited for in any case.

        Raises:
            RequestTimeoutError: It waited too long to begin.
            EdgePromptError: As of `submit`, and of the runtime's own call.
        """
        future = self.submit(item, task, timeout_s)
        try:
            wait((future,), timeout_s)
        finally:
            dropped = future.cancel()  # unless it has begun
        if dropped:
            raise _too_late()
        return future.result()

    async def asubmit(self, item: Any, task: TaskName = None, timeout_s: float | None = None) -> Any:
        """As `__call__`, from asyncio. If the task that awaits it is cancelled, so is what has not begun."""
        import asyncio  # noqa: PLC0415 - takes a while to import, and most programs do without

        future = self.submit(item, task, timeout_s)
        answer = asyncio.wrap_future(future)
        try:
            await asyncio.wait((answer,), timeout=timeout_s)
        except asyncio.CancelledError:
            answer.cancel()  # and `future` with it
            raise
        if future.cancel():
            raise _too_late()
        return await answer

    def close(self, *, answer: bool = True) -> None:
        """Take no more requests, and wait until those that wait are answered. Closing twice does nothing.

        Without it, the thread ends with the batcher, or with the interpreter, which answers what waits first.

        Args:
            answer: Whether those that have not begun are answered; they are refused by `ClosedError` if not.
        """
        for row in self._waiting.close(refuse=not answer):
            _fail(row, closed())
        self._pool.shutdown(wait=current_thread() is not self._thread)

    def _run(self) -> None:
        """Answer until nobody waits."""
        self._thread = current_thread()
        while any(taken := self._waiting.take()):
            for row in taken.late:
                _fail(row, _too_late())
            _guarded(self._answer, taken.rows)
            self._waiting.ended(len(taken.rows))

    def _answer(self, rows: Sequence[Row]) -> None:
        """Answer rows in groups of a size."""
        sizes = [size_of(row.item, self._longest) for row in rows]
        for group in groups_by_size(sizes) if self._longest else [range(len(rows))]:
            begun = [rows[index] for index in group if _begin(rows[index])]
            if begun:
                _guarded(self._answer_together, begun)

    def _answer_together(self, rows: Sequence[Row]) -> None:
        """Answer rows in one batch; if that fails, each half by itself, so that in the end only what is bad fails."""
        try:
            found = self._asked(rows)
        except Exception as error:  # noqa: BLE001 - it is the caller's
            if len(rows) == 1:
                _fail(rows[0], error)
                return
            middle = len(rows) // 2
            self._answer_together(rows[:middle])
            self._answer_together(rows[middle:])
        else:
            for row, answer in zip(rows, found, strict=True):
                row.future.set_result(answer)

    def _asked(self, rows: Sequence[Row]) -> list[Any]:
        found = self._call([row.item for row in rows], [row.task for row in rows], **self._settings)
        answers = [row.copy() for row in found] if isinstance(found, np.ndarray) else list(found)
        if len(answers) != len(rows):
            raise RuntimeError(f"{len(answers)} answers to {len(rows)} requests")
        return answers


def _guarded(answer: Callable[[Sequence[Row]], None], rows: Sequence[Row]) -> None:
    """Answer `rows`; whatever is raised, each of them has an answer afterwards, and others are served on."""
    try:
        answer(rows)
    except BaseException as error:  # noqa: BLE001 - it is the callers', KeyboardInterrupt and the like, too
        for row in rows:
            _fail(row, error)


def _begin(row: Row) -> bool:
    """Whether `row` is to run, and can no longer be cancelled: it was not, and waited no longer than it may."""
    if not row.future.set_running_or_notify_cancel():
        return False
    if row.late:
        _fail(row, _too_late())
        return False
    return True


def _fail(row: Row, error: BaseException) -> None:
    """Give `row` the error, unless it has an answer or was cancelled."""
    with suppress(InvalidStateError):
        row.future.set_exception(error)


def _too_late() -> RequestTimeoutError:
    return RequestTimeoutError(
        found="a request that waited for longer than it was given",
        wanted="a batch with room for it before",
        remedy="give it more time, or ask less at a time",
    )


def _require(holds: bool, found: str, wanted: str) -> None:  # noqa: FBT001 - it reads as a sentence
    if not holds:
        raise InputError(found=found, wanted=wanted, remedy="correct it")
