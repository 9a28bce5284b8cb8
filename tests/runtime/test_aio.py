from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_prompt.base.errors import ClosedError, InputError, UnknownTaskError
from edge_prompt_runtime import Runtime
from tests.conftest import AssertClose, MakeImage, MakePrompt

TEXTS = ["w1 w2 w3", "w4", "w5 w6 w7 w8 w9 w10 w11", "w12 w13"]


@pytest.fixture
def spam(runtime: Runtime, make_prompt: MakePrompt) -> Runtime:
    runtime.load("spam", make_prompt("spam", "prefix", classes=3))
    return runtime


class Held:
    """Calls that start and do not end until the test releases them."""

    def __init__(self, runtime: Runtime, workers: int = 1) -> None:
        self.begun = threading.Semaphore(0)
        self.let_go = threading.Event()
        self.calls: list[Any] = []
        self._embed = runtime.embed
        runtime.async_workers = workers
        runtime.embed = self  # type: ignore[method-assign]

    def __call__(self, inputs: Any, task: Any = None) -> Any:
        self.calls.append(inputs)
        self.begun.release()
        self.let_go.wait()
        return self._embed(inputs, task)


async def begun(held: Held) -> None:
    assert await asyncio.to_thread(held.begun.acquire, timeout=60)


def test_texts_are_answered_as_without_await(spam: Runtime, assert_close: AssertClose) -> None:
    feeds = {"input_ids": np.array([[2, 7, 9, 3]])}

    async def asked() -> tuple[Any, ...]:
        found: tuple[Any, ...] = await asyncio.gather(
            spam.aclassify(TEXTS[0], "spam"),
            spam.aclassify(TEXTS, "spam"),
            spam.aembed(TEXTS, [None, "spam", None, "spam"]),
            spam.ainfer(feeds, "spam"),
        )
        return found

    one, several, embedded, inferred = asyncio.run(asked())
    assert one.label == spam.classify(TEXTS[0], "spam").label
    assert [answer.label for answer in several] == [answer.label for answer in spam.classify(TEXTS, "spam")]
    assert_close(embedded, spam.embed(TEXTS, [None, "spam", None, "spam"]))
    assert_close(inferred["features"], spam.infer(feeds, "spam")["features"])
    spam.close()


def test_images_are_answered_as_without_await(
    detector: Runtime, segmenter: Runtime, make_image: MakeImage, assert_close: AssertClose
) -> None:
    path = make_image("cat")

    async def asked() -> tuple[Any, ...]:
        found: tuple[Any, ...] = await asyncio.gather(detector.adetect(path, threshold=0.1), segmenter.asegment(path))
        return found

    found, segmented = asyncio.run(asked())
    assert found == detector.detect(path, threshold=0.1)
    np.testing.assert_array_equal(segmented.map, segmenter.segment(path).map)


def test_tokens_are_labelled_as_without_await(tiny_tagger_bundle: Path, engine: str) -> None:
    runtime = Runtime(tiny_tagger_bundle, engine, threads=1)
    found = asyncio.run(runtime.alabel_tokens(TEXTS))
    assert [[token.label for token in row] for row in found] == [
        [token.label for token in row] for row in runtime.label_tokens(TEXTS)
    ]


def test_many_tasks_at_once_each_get_their_own(spam: Runtime, assert_close: AssertClose) -> None:
    alone = {name: spam.embed(TEXTS, name) for name in (None, "spam")}
    names = [None, "spam"] * 40

    async def asked() -> list[Any]:
        found: list[Any] = await asyncio.gather(*(spam.aembed(TEXTS, name) for name in names))
        return found

    for name, found in zip(names, asyncio.run(asked()), strict=True):
        assert_close(found, alone[name])


def test_errors_are_raised_where_it_is_awaited(spam: Runtime) -> None:
    with pytest.raises(UnknownTaskError, match="spma"):
        asyncio.run(spam.aembed(TEXTS, "spma"))
    with pytest.raises(InputError, match="text 0 is empty"):
        asyncio.run(spam.aclassify("", "spam"))


def test_the_loop_goes_on_meanwhile_and_a_call_sees_its_context(spam: Runtime) -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []
    held = Held(spam)

    def spying(inputs: Any, task: Any = None) -> Any:
        seen.append(variable.get())
        return held(inputs, task)

    spam.embed = spying  # type: ignore[method-assign]

    async def asked() -> None:
        variable.set("set")
        call = asyncio.create_task(spam.aembed("w1"))
        await begun(held)
        assert not call.done()
        held.let_go.set()
        assert (await call).shape == (32,)

    asyncio.run(asked())
    assert seen == ["set"]


def test_a_call_that_has_not_begun_is_dropped_and_one_that_has_ends_unseen(spam: Runtime) -> None:
    held = Held(spam)

    async def asked() -> None:
        running, waiting, last = (asyncio.create_task(spam.aembed(text)) for text in TEXTS[:3])
        await begun(held)
        running.cancel()
        waiting.cancel()
        assert all(
            isinstance(given, asyncio.CancelledError)
            for given in await asyncio.gather(running, waiting, return_exceptions=True)
        )
        held.let_go.set()
        await last

    asyncio.run(asked())
    assert held.calls == [TEXTS[0], TEXTS[2]]


def test_no_more_threads_than_workers(spam: Runtime) -> None:
    held = Held(spam, workers=3)

    async def asked() -> None:
        calls = [asyncio.create_task(spam.aembed("w1")) for _ in range(9)]
        for _ in range(3):
            await begun(held)
        await asyncio.sleep(0.05)
        assert len(held.calls) == 3
        held.let_go.set()
        await asyncio.gather(*calls)

    asyncio.run(asked())
    assert len(held.calls) == 9


def test_closing_answers_what_runs_and_refuses_what_waits(spam: Runtime) -> None:
    held = Held(spam)

    async def asked() -> list[Any]:
        calls = [asyncio.create_task(spam.aembed("w1")) for _ in range(3)]
        await begun(held)
        closing = asyncio.create_task(asyncio.to_thread(spam.close))
        while not spam._closed:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        held.let_go.set()
        await closing
        found: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
        return found

    with spam:
        first, *others = asyncio.run(asked())
    assert first.shape == (32,)
    assert [type(other) for other in others] == [ClosedError, ClosedError]
    with pytest.raises(ClosedError, match="made on a closed runtime; expected an open runtime"):
        asyncio.run(spam.aembed("w1"))
    assert spam.embed("w1").shape == (32,)


def test_threads_end_with_the_interpreter(tiny_bundle: Path, engine: str) -> None:
    code = (
        "import asyncio\nfrom edge_prompt_runtime import Runtime\n"
        f"runtime = Runtime({str(tiny_bundle)!r}, {engine!r}, threads=1)\n"
        "print(asyncio.run(runtime.aembed('w1')).shape)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert found.stdout.strip() == "(32,)"
