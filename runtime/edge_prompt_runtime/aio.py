"""Requests from asyncio: the calls of a runtime as coroutines, which run in a few threads of its own."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextvars import copy_context
from functools import partial
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from edge_prompt.base.errors import ClosedError
from edge_prompt_runtime.closing import Closing

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

    from numpy.typing import NDArray

    from edge_prompt_runtime.answers.results import Classification, Detection, Segmentation, TokenLabel
    from edge_prompt_runtime.execution.network import Outputs
    from edge_prompt_runtime.generation.interfaces import Cancellation
    from edge_prompt_runtime.generation.results import Generation, Piece
    from edge_prompt_runtime.runtime import Single
    from edge_prompt_runtime.tasks.registry import TaskName
    from edge_prompt_runtime.tasks.task import Float32

MOST_WORKERS = 8

Found = TypeVar("Found")


class Asynchronous(Closing):
    """The calls of `Runtime` by their names with an `a` before them; each is as that one, and blocks no event loop.

    They run in threads that are started when they are first needed. A task that is cancelled while it awaits a call
    takes the call with it if that has not begun; generation ends at the next token; any other call runs to its end,
    which nobody sees.

    Attributes:
        async_workers: How many of them run at a time; set it before the first one. By default a thread a processor, at
            least 2 and at most 8.
    """

    async_workers: int = min(MOST_WORKERS, max(2, os.cpu_count() or 1))
    _workers: ThreadPoolExecutor | None = None
    _closed = False
    _workers_lock = Lock()  # of all runtimes: it is held for no longer than it takes to submit

    @overload
    async def aclassify(
        self, inputs: Single, task: TaskName = None, labels: Sequence[str] | None = None
    ) -> Classification: ...
    @overload
    async def aclassify(
        self,
        inputs: Sequence[Any] | Mapping[str, NDArray[Any]],
        task: TaskName | Sequence[TaskName] = None,
        labels: Sequence[str] | None = None,
    ) -> list[Classification]: ...
    async def aclassify(
        self, inputs: Any, task: TaskName | Sequence[TaskName] = None, labels: Sequence[str] | None = None
    ) -> Classification | list[Classification]:
        """See `Runtime.classify`."""
        found: Classification | list[Classification] = await self._called("classify", inputs, task, labels)
        return found

    async def aembed(self, inputs: Any, task: TaskName | Sequence[TaskName] = None) -> Float32:
        """See `Runtime.embed`."""
        found: Float32 = await self._called("embed", inputs, task)
        return found

    @overload
    async def alabel_tokens(self, inputs: str, task: TaskName = None) -> list[TokenLabel]: ...  # type: ignore[overload-overlap]
    @overload
    async def alabel_tokens(
        self, inputs: Sequence[str], task: TaskName | Sequence[TaskName] = None
    ) -> list[list[TokenLabel]]: ...
    async def alabel_tokens(
        self, inputs: str | Sequence[str], task: TaskName | Sequence[TaskName] = None
    ) -> list[TokenLabel] | list[list[TokenLabel]]:
        """See `Runtime.label_tokens`."""
        found: list[TokenLabel] | list[list[TokenLabel]] = await self._called("label_tokens", inputs, task)
        return found

    @overload
    async def adetect(self, inputs: Single, task: TaskName = None, threshold: float = 0.5) -> list[Detection]: ...
    @overload
    async def adetect(
        self, inputs: Sequence[Any], task: TaskName | Sequence[TaskName] = None, threshold: float = 0.5
    ) -> list[list[Detection]]: ...
    async def adetect(
        self, inputs: Any, task: TaskName | Sequence[TaskName] = None, threshold: float = 0.5
    ) -> list[Detection] | list[list[Detection]]:
        """See `Runtime.detect`."""
        found: list[Detection] | list[list[Detection]] = await self._called("detect", inputs, task, threshold)
        return found

    @overload
    async def asegment(self, inputs: Single, task: TaskName = None) -> Segmentation: ...
    @overload
    async def asegment(
        self, inputs: Sequence[Any], task: TaskName | Sequence[TaskName] = None
    ) -> list[Segmentation]: ...
    async def asegment(
        self, inputs: Any, task: TaskName | Sequence[TaskName] = None
    ) -> Segmentation | list[Segmentation]:
        """See `Runtime.segment`."""
        found: Segmentation | list[Segmentation] = await self._called("segment", inputs, task)
        return found

    async def ainfer(self, feeds: Mapping[str, NDArray[Any]], task: TaskName | Sequence[TaskName] = None) -> Outputs:
        """See `Runtime.infer`."""
        found: Outputs = await self._called("infer", feeds, task)
        return found

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
        """See `Runtime.generate`: to be awaited, or with `stream` to be iterated by `async for`.

        A stream takes a thread for a token at a time, so any number of them take turns in a few threads; what is wrong
        with a request is raised with the first piece. Leave it early by `aclose()`, or by the end of its task.
        """
        ended = _Either(cancel)
        generate = partial(getattr(self, "generate"), inputs, task, stream=stream, cancel=ended, **settings)  # noqa: B009
        return self._streamed(generate, ended) if stream else self._generated(generate, ended)

    def close(self) -> None:
        """End the threads of asynchronous calls: those that run end first, those that wait are refused.

        Calls that are not asynchronous need no thread and are answered still. Closing twice does nothing. Without it,
        the threads end with the runtime, or with the interpreter.
        """
        with self._workers_lock:
            workers, self._workers, self._closed = self._workers, None, True
        if workers is not None:
            workers.shutdown(wait=True, cancel_futures=True)

    async def _called(self, call: str, *arguments: Any) -> Any:
        return await self._in_a_thread(partial(getattr(self, call), *arguments))

    async def _generated(
        self, generate: Callable[[], Generation | list[Generation]], ended: _Either
    ) -> Generation | list[Generation]:
        try:
            return await self._in_a_thread(generate)
        finally:
            ended.set()

    async def _streamed(self, generate: Callable[[], Iterator[Piece]], ended: _Either) -> AsyncGenerator[Piece]:
        steps = _Steps(await self._in_a_thread(generate))
        try:
            while (piece := await self._in_a_thread(steps.next)) is not None:
                yield piece
        finally:
            ended.set()
            try:
                self._submit(steps.close)  # not here: a step may be under way
            except ClosedError:
                steps.close()

    async def _in_a_thread(self, work: Callable[[], Found]) -> Found:
        """What `work` gives, which sees the context variables that there are here."""
        import asyncio  # noqa: PLC0415 - takes as long as numpy to import, and most programs do without

        future = self._submit(partial(copy_context().run, work))
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if future.cancelled() and self._closed and not (task and task.cancelling()):
                raise _closed() from None  # nobody cancelled the task that waits
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
    """Set once it is set here, or by the caller's own event; see `Cancellation`."""

    def __init__(self, other: Cancellation | None) -> None:
        self._own = Event()
        self._other = other

    def set(self) -> None:
        self._own.set()

    def is_set(self) -> bool:
        return self._own.is_set() or (self._other is not None and self._other.is_set())


class _Steps:
    """Pieces one at a time, from whatever thread asks; closed by a thread while another asks, it is closed after it."""

    def __init__(self, pieces: Any) -> None:
        self._pieces = pieces
        self._lock = Lock()

    def next(self) -> Piece | None:
        """The next piece; None at the end."""
        with self._lock:
            piece: Piece | None = next(self._pieces, None)
            return piece

    def close(self) -> None:
        """Let go of what the pieces are made of."""
        with self._lock:
            self._pieces.close()


def _closed() -> ClosedError:
    return ClosedError(
        found="an asynchronous call of a runtime that was closed",
        wanted="an open one",
        remedy="close it after the last call, or open another",
    )
