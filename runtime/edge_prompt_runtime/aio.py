"""The asyncio interface: the methods of a runtime as coroutines, which run in a small pool of threads."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Sequence
from contextvars import copy_context
from functools import partial, update_wrapper
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, Concatenate, Literal, ParamSpec, TypeVar, overload

from edge_prompt.base.errors import ClosedError
from edge_prompt_runtime.closable import Closable

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from edge_prompt_runtime.generation.interfaces import Cancellation
    from edge_prompt_runtime.generation.results import Generation, Piece
    from edge_prompt_runtime.tasks.registry import TaskName

MOST_WORKERS = 8

Arguments = ParamSpec("Arguments")
Found = TypeVar("Found")
Owner = TypeVar("Owner", bound="Asynchronous")


def asynchronous(
    method: Callable[Concatenate[Owner, Arguments], Found],
) -> Callable[Concatenate[Owner, Arguments], Coroutine[Any, Any, Found]]:
    """Return a method of an `Asynchronous` as a coroutine, with the same arguments and the same overloads."""
    name: str = method.__name__  # looked up with each call, so that subclasses may override the method

    async def awaited(self: Owner, /, *arguments: Arguments.args, **settings: Arguments.kwargs) -> Found:
        found: Found = await self.in_a_thread(partial(getattr(self, name), *arguments, **settings))
        return found

    update_wrapper(awaited, method, assigned=("__doc__", "__module__", "__annotations__"))
    return awaited


class Asynchronous(Closable):
    """The methods of `Runtime` as coroutines, with the prefix `a`: they give the same answers without blocking.

    The calls run in a pool of threads, which starts with the first call. If a task is cancelled while it awaits a call,
    a call that has not begun is cancelled too, and generation stops at the next token; any other call runs to its end
    and its answer is discarded.

    Attributes:
        async_workers: Maximum number of calls that run at once; set it before the first call. The default is one
            thread per processor, at least 2 and at most 8.
    """

    async_workers: int = min(MOST_WORKERS, max(2, os.cpu_count() or 1))
    _workers: ThreadPoolExecutor | None = None
    _closed = False
    _workers_lock = Lock()  # shared by all runtimes: held only while a call is submitted

    @overload
    def agenerate(
        self,
        inputs: str | list[dict[str, str]],
        task: TaskName = None,
        *,
        stream: Literal[False] = False,
        cancel: Cancellation | None = None,
        **settings: Any,
    ) -> Coroutine[Any, Any, Generation]: ...
    @overload
    def agenerate(
        self,
        inputs: list[str],
        task: TaskName | Sequence[TaskName] = None,
        *,
        stream: Literal[False] = False,
        cancel: Cancellation | None = None,
        **settings: Any,
    ) -> Coroutine[Any, Any, list[Generation]]: ...
    @overload
    def agenerate(
        self,
        inputs: Any,
        task: TaskName | Sequence[TaskName] = None,
        *,
        stream: Literal[False] = False,
        cancel: Cancellation | None = None,
        **settings: Any,
    ) -> Coroutine[Any, Any, Generation | list[Generation]]: ...
    @overload
    def agenerate(
        self,
        inputs: Any,
        task: TaskName | Sequence[TaskName] = None,
        *,
        stream: Literal[True],
        cancel: Cancellation | None = None,
        **settings: Any,
    ) -> AsyncGenerator[Piece]: ...
    def agenerate(
        self,
        inputs: Any,
        task: TaskName | Sequence[TaskName] = None,
        *,
        stream: bool = False,
        cancel: Cancellation | None = None,
        **settings: Any,
    ) -> Coroutine[Any, Any, Generation | list[Generation]] | AsyncGenerator[Piece]:
        """See `Runtime.generate`. Await the result, or with `stream` iterate over it with `async for`.

        A stream occupies a thread for one token at a time, so any number of streams share a few threads. Errors in the
        request are raised with the first piece. To stop a stream early, call `aclose()` or cancel its task.
        """
        ended = _Either(cancel)
        generate = partial(getattr(self, "generate"), inputs, task, stream=stream, cancel=ended, **settings)  # noqa: B009
        return self._streamed(generate, ended) if stream else self._generated(generate, ended)

    def close(self) -> None:
        """Stop the threads of asynchronous calls: running calls finish first, waiting calls are rejected.

        Synchronous calls need no such thread and still work afterwards. Closing twice has no effect. A runtime that is
        never closed stops its threads when it is garbage-collected, or when the interpreter exits.
        """
        with self._workers_lock:
            workers, self._workers, self._closed = self._workers, None, True
        if workers is not None:
            workers.shutdown(wait=True, cancel_futures=True)

    async def _generated(
        self, generate: Callable[[], Generation | list[Generation]], ended: _Either
    ) -> Generation | list[Generation]:
        try:
            return await self.in_a_thread(generate)
        finally:
            ended.set()

    async def _streamed(self, generate: Callable[[], Iterator[Piece]], ended: _Either) -> AsyncGenerator[Piece]:
        steps = _Steps(await self.in_a_thread(generate))
        try:
            while (piece := await self.in_a_thread(steps.next)) is not None:
                yield piece
        finally:
            ended.set()
            try:
                self._submit(steps.close)  # in the pool, because a step may still be running
            except ClosedError:
                steps.close()

    async def in_a_thread(self, work: Callable[[], Found]) -> Found:
        """Run `work` in the pool, with the context variables of the caller."""
        import asyncio  # noqa: PLC0415 - takes as long to import as numpy, and most programs do not need it

        future = self._submit(partial(copy_context().run, work))
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if future.cancelled() and self._closed and not (task and task.cancelling()):
                raise _closed() from None  # the waiting task itself was not cancelled
            raise

    def _submit(self, work: Callable[[], Found]) -> Future[Found]:
        with self._workers_lock:
            if self._closed:
                raise _closed()
            if self._workers is None:
                from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415 - see above

                self._workers = ThreadPoolExecutor(self.async_workers, "edge-prompt-async")
            try:
                return self._workers.submit(work)
            except RuntimeError as error:  # the interpreter is ending
                raise _closed() from error


class _Either:
    """A cancellation that is set here or through the caller's own event; see `Cancellation`."""

    def __init__(self, other: Cancellation | None) -> None:
        self._own = Event()
        self._other = other

    def set(self) -> None:
        self._own.set()

    def is_set(self) -> bool:
        return self._own.is_set() or (self._other is not None and self._other.is_set())


class _Steps:
    """Hands out pieces one at a time to any thread; `close` waits for a step that is running in another thread."""

    def __init__(self, pieces: Any) -> None:
        self._pieces = pieces
        self._lock = Lock()

    def next(self) -> Piece | None:
        """Return the next piece; None at the end."""
        with self._lock:
            piece: Piece | None = next(self._pieces, None)
            return piece

    def close(self) -> None:
        """Close the iterator of pieces."""
        with self._lock:
            self._pieces.close()


def _closed() -> ClosedError:
    return ClosedError(
        found="an asynchronous call was made on a closed runtime",
        wanted="an open runtime",
        remedy="close the runtime after the last call, or open another one",
    )
