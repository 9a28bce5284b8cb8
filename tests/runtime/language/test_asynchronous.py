from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from edge_prompt.base.errors import InputError
from edge_prompt_runtime import Runtime

TEXT = "the oil price rose"


@pytest.mark.parametrize("task", [None, "soft", "prefix"])
def test_a_text_and_its_pieces_are_those_without_await(tasks: Runtime, task: str | None) -> None:
    async def asked() -> tuple[Any, list[str]]:
        whole = await tasks.agenerate(TEXT, task, max_new_tokens=12)
        return whole, [str(piece) async for piece in tasks.agenerate(TEXT, task, stream=True, max_new_tokens=12)]

    whole, pieces = asyncio.run(asked())
    assert whole == tasks.generate(TEXT, task, max_new_tokens=12)
    assert "".join(pieces) == whole.text


def test_more_streams_than_threads_take_turns(tasks: Runtime) -> None:
    tasks.async_workers = 2
    names = [None, "soft", "prefix"] * 3
    alone = {name: tasks.generate(TEXT, name, max_new_tokens=12).text for name in set(names)}
    going: set[int] = set()
    most = 0

    async def streamed(number: int, name: str | None) -> str:
        nonlocal most
        text = ""
        async for piece in tasks.agenerate(TEXT, name, stream=True, max_new_tokens=12):
            going.add(number)
            most = max(most, len(going))
            text += str(piece)
        going.discard(number)
        return text

    async def asked() -> list[str]:
        return await asyncio.gather(*(streamed(number, name) for number, name in enumerate(names)))

    assert asyncio.run(asked()) == [alone[name] for name in names]
    assert most > 2


def test_an_abandoned_stream_releases_the_engine(tasks: Runtime) -> None:
    reference = tasks.generate(TEXT, "soft", max_new_tokens=12)

    async def asked() -> None:
        stream = tasks.agenerate(TEXT, "soft", stream=True, max_new_tokens=50)
        assert [await anext(stream), await anext(stream)][1].finish_reason is None
        await stream.aclose()
        assert await tasks.agenerate(TEXT, "soft", max_new_tokens=12) == reference

    asyncio.run(asked())
    tasks.close()


class Waiting:
    """A cancellation of the caller that is never set; generation waits in `is_set` until the test releases it."""

    def __init__(self) -> None:
        self.looked_at = threading.Event()
        self.let_go = threading.Event()

    def is_set(self) -> bool:
        self.looked_at.set()
        self.let_go.wait()
        return False


def test_a_task_that_is_cancelled_ends_its_generation(tasks: Runtime) -> None:
    ended = []
    generate = tasks.generate

    def seen(*arguments: Any, **settings: Any) -> Any:
        ended.append(generate(*arguments, **settings))
        return ended[-1]

    tasks.generate = seen  # type: ignore[method-assign]
    waiting = Waiting()

    async def asked() -> None:
        call = asyncio.create_task(tasks.agenerate(TEXT, "soft", cancel=waiting, max_new_tokens=50))
        assert await asyncio.to_thread(waiting.looked_at.wait, timeout=60)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        waiting.let_go.set()

    asyncio.run(asked())
    tasks.close()
    assert [(answer.finish_reason, len(answer.tokens)) for answer in ended] == [("cancelled", 1)]


def test_an_event_of_the_callers_own_still_counts(tasks: Runtime) -> None:
    cancel = threading.Event()
    cancel.set()
    found = asyncio.run(tasks.agenerate(TEXT, "soft", cancel=cancel))
    assert not isinstance(found, list)
    assert found.finish_reason == "cancelled"


def test_a_bad_request_is_refused_in_the_loop(tasks: Runtime) -> None:
    async def streamed() -> None:
        async for _ in tasks.agenerate("", "soft", stream=True):
            pass

    with pytest.raises(InputError, match="text 0 is empty"):
        asyncio.run(streamed())
    with pytest.raises(InputError, match="tempreature"):
        asyncio.run(tasks.agenerate(TEXT, tempreature=1))
