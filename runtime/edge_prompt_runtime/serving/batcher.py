"""The micro-batcher, which combines single requests of many callers, for any tasks, into batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor, wait
from contextlib import suppress
from threading import TIMEOUT_MAX, Thread, current_thread
from time import monotonic
from typing import Any

import numpy as np

from edge_prompt.base.errors import InputError, RequestTimeoutError
from edge_prompt_runtime.closable import Closable
from edge_prompt_runtime.runtime import Runtime
from edge_prompt_runtime.serving.queue import QueuedRequest, RequestQueue, closed
from edge_prompt_runtime.serving.sizes import groups_by_size, longest_row, size_of
from edge_prompt_runtime.tasks.registry import TaskName

CALLS = ("classify", "embed", "label_tokens", "detect", "segment", "generate")
"""The calls of a runtime that take rows, with one task per row."""

LONGEST_DELAY_MS = 60_000


class Batcher(Closable):
    """Answers single requests with a runtime, and runs concurrent requests as one batch. It is thread-safe.

    Each request gets the same answer as it would alone. If a request fails, only that request gets the error: the
    others of its batch run again without it. One thread runs the batches; it exists only while there are requests.

    Args:
        runtime: The runtime, which may be used by others at the same time.
        call: The method to call: `classify`, `embed`, `label_tokens`, `detect`, `segment` or `generate`.
        max_rows: The maximum batch size.
        max_delay_ms: How long a batch waits to fill up, in milliseconds. Only a batch that follows another one waits,
            and only until as many requests are waiting as were in progress. A single request runs immediately.
        max_waiting: The maximum length of the queue. Further requests are refused.
        **settings: The arguments for every request: `labels`, `threshold`, or the settings of `generate`.

    Raises:
        InputError: The call does not exist, or a number is out of range.
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
        self._waiting = RequestQueue(
            lambda: self._pool.submit(self._run),
            max_rows=max_rows,
            max_delay_s=max_delay_ms / 1000,
            max_waiting=max_waiting,
        )

    @property
    def waiting(self) -> int:
        """The number of requests in the queue."""
        return len(self._waiting)

    def submit(self, item: Any, task: TaskName = None, timeout_s: float | None = None) -> Future[Any]:
        """Submit one request.

        Args:
            item: A text, an image, or any other input of one row.
            task: Its task; None is the base model.
            timeout_s: How long it may wait in the queue, in seconds; None means without limit.

        Returns:
            A future with the answer or the error, which is `RequestTimeoutError` after the timeout. It can be
            cancelled until the request starts to run.

        Raises:
            QueueFullError: The queue is full.
            ClosedError: The batcher was closed.
            InputError: This is not a single request with one task, or the timeout is not positive.
        """
        _require(
            not isinstance(item, Mapping | int | np.integer), f"an item of type {type(item).__name__}", "one input"
        )
        _require(task is None or isinstance(task, str), f"the task {task!r}", "a name, or None")
        _require(timeout_s is None or 0 < timeout_s <= TIMEOUT_MAX, f"timeout_s={timeout_s}", "seconds, above 0")
        row = QueuedRequest(item, task, Future(), None if timeout_s is None else monotonic() + timeout_s)
        late = self._waiting.put(row)
        row.future.add_done_callback(self._waiting.drop)  # a cancelled request leaves the queue
        for one in late:
            _fail(one, _timeout_error())
        return row.future

    def __call__(self, item: Any, task: TaskName = None, timeout_s: float | None = None) -> Any:
        """Submit one request and wait for the answer; see `submit`. A request that has started is always completed.

        Raises:
            RequestTimeoutError: The request did not start in time.
            EdgePromptError: Any error of `submit` or of the runtime.
        """
        future = self.submit(item, task, timeout_s)
        try:
            wait((future,), timeout_s)
        finally:
            dropped = future.cancel()  # unless it has started
        if dropped:
            raise _timeout_error()
        return future.result()

    async def asubmit(self, item: Any, task: TaskName = None, timeout_s: float | None = None) -> Any:
        """Like `__call__`, for asyncio. Cancelling the awaiting task cancels a request that has not started."""
        import asyncio  # noqa: PLC0415 - slow to import, and rarely needed

        future = self.submit(item, task, timeout_s)
        answer = asyncio.wrap_future(future)
        try:
            await asyncio.wait((answer,), timeout=timeout_s)
        except asyncio.CancelledError:
            answer.cancel()  # and `future` with it
            raise
        if future.cancel():
            raise _timeout_error()
        return await answer

    def close(self, *, answer: bool = True) -> None:
        """Accept no more requests, and wait until the queued ones are answered. Closing twice does nothing.

        Without this call, the thread ends with the batcher or the interpreter, after it has answered queued requests.

        Args:
            answer: Whether to answer requests that have not started; otherwise they fail with `ClosedError`.
        """
        for row in self._waiting.close(refuse=not answer):
            _fail(row, closed())
        self._pool.shutdown(wait=current_thread() is not self._thread)

    def _run(self) -> None:
        """Answer requests until the queue is empty."""
        self._thread = current_thread()
        while any(taken := self._waiting.take()):
            for row in taken.late:
                _fail(row, _timeout_error())
            _guarded(self._answer, taken.rows)
            self._waiting.ended(len(taken.rows))

    def _answer(self, rows: Sequence[QueuedRequest]) -> None:
        """Answer rows in groups of similar size."""
        sizes = [size_of(row.item, self._longest) for row in rows]
        for group in groups_by_size(sizes) if self._longest else [range(len(rows))]:
            begun = [rows[index] for index in group if _begin(rows[index])]
            if begun:
                _guarded(self._answer_batch, begun)

    def _answer_batch(self, rows: Sequence[QueuedRequest]) -> None:
        """Answer rows in one batch. If it fails, retry each half separately, so that only bad rows fail."""
        try:
            found = self._call_runtime(rows)
        except Exception as error:  # noqa: BLE001 - it is passed on to the caller
            if len(rows) == 1:
                _fail(rows[0], error)
                return
            middle = len(rows) // 2
            self._answer_batch(rows[:middle])
            self._answer_batch(rows[middle:])
        else:
            for row, answer in zip(rows, found, strict=True):
                row.future.set_result(answer)

    def _call_runtime(self, rows: Sequence[QueuedRequest]) -> list[Any]:
        found = self._call([row.item for row in rows], [row.task for row in rows], **self._settings)
        answers = [row.copy() for row in found] if isinstance(found, np.ndarray) else list(found)
        if len(answers) != len(rows):
            raise RuntimeError(f"{len(answers)} answers to {len(rows)} requests")
        return answers


def _guarded(answer: Callable[[Sequence[QueuedRequest]], None], rows: Sequence[QueuedRequest]) -> None:
    """Answer `rows`. On any exception, every row without an answer gets the exception, and serving continues."""
    try:
        answer(rows)
    except BaseException as error:  # noqa: BLE001 - passed on to the callers, including KeyboardInterrupt
        for row in rows:
            _fail(row, error)


def _begin(row: QueuedRequest) -> bool:
    """Mark `row` as running unless it was cancelled or is late, and return whether it runs."""
    if not row.future.set_running_or_notify_cancel():
        return False
    if row.late:
        _fail(row, _timeout_error())
        return False
    return True


def _fail(row: QueuedRequest, error: BaseException) -> None:
    """Set the error of `row`, unless it has an answer or was cancelled."""
    with suppress(InvalidStateError):
        row.future.set_exception(error)


def _timeout_error() -> RequestTimeoutError:
    return RequestTimeoutError(
        found="the request timed out in the queue",
        wanted="a free place in a batch before the timeout",
        remedy="increase timeout_s, or send fewer requests at a time",
    )


def _require(holds: bool, found: str, wanted: str) -> None:  # noqa: FBT001 - it reads as a sentence
    if not holds:
        raise InputError(found=found, wanted=wanted, remedy="correct the argument")
