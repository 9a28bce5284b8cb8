from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_prompt.base.errors import ClosedError, InputError, QueueFullError, RequestTimeoutError, UnknownTaskError
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.serving import Batcher
from tests.conftest import AssertClose, MakeImage, MakePrompt

TEXTS = ["w1 w2 w3", "w4", "w5 w6 w7 w8 w9 w10 w11", "w12 w13", "w14 w15 w16 w17", "w18"]


@pytest.fixture
def tasks(runtime: Runtime, make_prompt: MakePrompt) -> list[str]:
    """Tasks of both kinds and different lengths, loaded."""
    for name, kind, length in (("short", "soft", 1), ("long", "soft", 9), ("prefix", "prefix", 12)):
        runtime.load(name, make_prompt(name, kind, length=length, classes=3))
    return list(runtime.tasks)


class Gate:
    """The runtime's own `embed`, which records each batch and waits to be released."""

    def __init__(self, runtime: Runtime) -> None:
        self.batches: list[list[Any]] = []
        self.begun = threading.Semaphore(0)
        self.let_go = threading.Event()
        self.embed = runtime.embed
        runtime.embed = self  # type: ignore[method-assign, assignment]

    def __call__(self, items: Any, task: Any) -> Any:
        self.batches.append(list(zip(items, task, strict=True)))
        self.begun.release()
        if not self.let_go.wait(20):
            self.let_go.set()
        return self.embed(items, task)


@pytest.fixture
def gate(runtime: Runtime) -> Gate:
    return Gate(runtime)


def running(batcher: Batcher, gate: Gate, text: str = "w1") -> Future[Any]:
    """A request that runs and does not end."""
    future = batcher.submit(text)
    assert gate.begun.acquire(timeout=60)
    return future


def test_a_row_is_what_it_is_alone(runtime: Runtime, tasks: list[str], assert_close: AssertClose) -> None:
    rows = [(text, name) for text in TEXTS for name in (None, *tasks)]
    with Batcher(runtime, "embed") as batcher:
        futures = [batcher.submit(text, name) for text, name in rows]
        for (text, name), future in zip(rows, futures, strict=True):
            assert_close(future.result(60), runtime.embed(text, name))
    with Batcher(runtime) as batcher:
        assert batcher(TEXTS[0], "long").label == runtime.classify(TEXTS[0], "long").label


def test_requests_of_different_tasks_that_come_while_a_batch_runs_are_the_next_one(
    runtime: Runtime, tasks: list[str], gate: Gate
) -> None:
    with Batcher(runtime, "embed", max_rows=3) as batcher:
        first = running(batcher, gate)
        futures = [batcher.submit("w2", name) for name in (*tasks, None)]
        assert batcher.waiting == 4
        gate.let_go.set()
        wait([first, *futures], 60)
    assert gate.batches == [[("w1", None)], [("w2", name) for name in tasks], [("w2", None)]]


def test_texts_of_very_different_length_run_by_themselves(runtime: Runtime, gate: Gate) -> None:
    short, long = "w1", "w2 " * 40
    with Batcher(runtime, "embed") as batcher:
        running(batcher, gate, "w7")
        futures = [batcher.submit(text) for text in (long, short, long, short, long, short)]
        gate.let_go.set()
        wait(futures, 60)
    assert [[text for text, _ in batch] for batch in gate.batches] == [["w7"], [short] * 3, [long] * 3]


def test_a_bad_row_fails_alone(runtime: Runtime, tasks: list[str], gate: Gate, assert_close: AssertClose) -> None:
    rows = [("w1", "short"), ("", "short"), ("w2", "unknown"), (b"w3", "long"), ("w4", None), (["w5"], None)]
    with Batcher(runtime, "embed") as batcher:
        running(batcher, gate)
        futures = [batcher.submit(text, name) for text, name in rows]
        gate.let_go.set()
        errors = [type(future.exception(60)) for future in futures]
        assert errors == [type(None), InputError, UnknownTaskError, InputError, type(None), InputError]
        for row in (0, 4):
            assert_close(futures[row].result(), gate.embed(*rows[row]))
        assert_close(batcher("w1", "short"), gate.embed("w1", "short"))


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit, MemoryError, StopIteration])
def test_any_exception_reaches_its_callers_and_others_are_served(
    runtime: Runtime, gate: Gate, raised: type[BaseException]
) -> None:
    embed = gate.embed

    def interrupted(items: Any, task: Any) -> Any:
        if "w9" in items:
            raise raised
        return embed(items, task)

    gate.embed = interrupted  # type: ignore[assignment]
    with Batcher(runtime, "embed") as batcher:
        running(batcher, gate)
        futures = [batcher.submit(text) for text in ("w8", "w9", "w10")]
        gate.let_go.set()
        assert isinstance(futures[1].exception(60), raised)
        for future in (futures[0], futures[2]):  # anything that is not an Exception is not retried
            assert isinstance(future.exception(60), type(None) if issubclass(raised, Exception) else raised)
        assert batcher("w10").shape == (32,)


def test_another_number_of_answers_is_an_error_of_each(runtime: Runtime) -> None:
    three: Any = lambda _items, _task: np.zeros((3, 32), np.float32)
    runtime.embed = three  # type: ignore[method-assign]
    with Batcher(runtime, "embed") as batcher, pytest.raises(RuntimeError, match="3 answers to 1 requests"):
        batcher("w1")


def test_a_full_queue_refuses_and_cancelled_requests_free_their_places(runtime: Runtime, gate: Gate) -> None:
    with Batcher(runtime, "embed", max_waiting=2) as batcher:
        running(batcher, gate)
        waiting = [batcher.submit(text) for text in ("w2", "w3")]
        with pytest.raises(QueueFullError, match=r"the queue is full \(2 requests waiting\); expected fewer"):
            batcher.submit("w4")
        assert waiting[0].cancel()
        last = batcher.submit("w4")
        gate.let_go.set()
        assert last.result(60).shape == waiting[1].result(60).shape == (32,)
    assert [text for batch in gate.batches for text, _ in batch] == ["w1", "w3", "w4"]


def test_expired_requests_are_dropped_before_they_run(runtime: Runtime, gate: Gate) -> None:
    with Batcher(runtime, "embed", max_waiting=2) as batcher:
        first = running(batcher, gate)
        with pytest.raises(RequestTimeoutError, match="timed out in the queue"):
            batcher("w2", timeout_s=0.01)
        late = [batcher.submit("w3", timeout_s=0.01), batcher.submit("w4", timeout_s=0.01)]
        while batcher.waiting == 2:
            try:  # expired requests free their places
                last = batcher.submit("w5", timeout_s=60)
            except QueueFullError:
                continue
            break
        gate.let_go.set()
        assert all(isinstance(future.exception(60), RequestTimeoutError) for future in late)
        assert first.result(60).shape == last.result(60).shape == (32,)
    assert [text for batch in gate.batches for text, _ in batch] == ["w1", "w5"]


def test_a_request_that_has_begun_is_waited_for(runtime: Runtime, gate: Gate) -> None:
    with Batcher(runtime, "embed") as batcher, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(batcher, "w1", timeout_s=0.05)
        while not gate.begun.acquire(timeout=1):  # on a busy machine it was dropped
            asked = pool.submit(batcher, "w1", timeout_s=0.05)
        time.sleep(0.1)
        gate.let_go.set()
        assert asked.result(60).shape == (32,)


@pytest.mark.parametrize("answer", [True, False])
def test_closing_answers_or_refuses_waiting_requests(runtime: Runtime, gate: Gate, answer: bool) -> None:
    batcher = Batcher(runtime, "embed")
    first = running(batcher, gate)
    waiting = [batcher.submit("w2") for _ in range(3)]
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(batcher.close, answer=answer)
        if not answer:
            assert all(isinstance(future.exception(60), ClosedError) for future in waiting)
        gate.let_go.set()
        closing.result(60)
    assert first.result(0).shape == (32,)
    assert all(future.done() for future in waiting)
    assert all((future.exception() is None) is answer for future in waiting)
    with pytest.raises(ClosedError, match="a request to a closed batcher"):
        batcher.submit("w1")
    batcher.close()


def test_a_callback_may_close_the_batcher(runtime: Runtime, gate: Gate) -> None:
    batcher = Batcher(runtime, "embed")
    first = running(batcher, gate)
    first.add_done_callback(lambda _future: batcher.close())
    gate.let_go.set()
    assert first.result(60).shape == (32,)
    batcher.close()


def test_requests_can_be_awaited(runtime: Runtime, tasks: list[str], assert_close: AssertClose) -> None:
    rows = [(text, name) for text in TEXTS for name in tasks]

    async def asked(batcher: Batcher) -> list[Any]:
        return await asyncio.gather(
            *(batcher.asubmit(text, name, timeout_s=60) for text, name in rows),
            batcher.asubmit("", tasks[0]),
            return_exceptions=True,
        )

    with Batcher(runtime, "embed") as batcher:
        *found, error = asyncio.run(asked(batcher))
    assert isinstance(error, InputError)
    for (text, name), answer in zip(rows, found, strict=True):
        assert_close(answer, runtime.embed(text, name))


def test_a_task_that_is_cancelled_or_waits_too_long_takes_its_request_with_it(runtime: Runtime, gate: Gate) -> None:
    async def asked(batcher: Batcher) -> list[Any]:
        calls = [asyncio.create_task(batcher.asubmit("w1"))]
        assert await asyncio.to_thread(gate.begun.acquire, timeout=60)
        calls.append(asyncio.create_task(batcher.asubmit("w2")))
        calls.append(asyncio.create_task(batcher.asubmit("w3", timeout_s=0.01)))
        calls.append(asyncio.create_task(batcher.asubmit("w4", timeout_s=60)))
        await asyncio.wait(calls[2:3])
        calls[0].cancel()
        calls[1].cancel()
        await asyncio.wait(calls[:2])
        gate.let_go.set()
        return await asyncio.gather(*calls, return_exceptions=True)

    with Batcher(runtime, "embed") as batcher:
        first, second, third, fourth = asyncio.run(asked(batcher))
    assert [type(first), type(second)] == [asyncio.CancelledError] * 2
    assert isinstance(third, RequestTimeoutError)
    assert fourth.shape == (32,)
    assert [text for batch in gate.batches for text, _ in batch] == ["w1", "w4"]


def test_images_and_generated_texts(
    detector: Runtime, make_image: MakeImage, tiny_language_bundle: Path, engine: str
) -> None:
    paths = [make_image(name, height) for name, height in (("cat", 40), ("dog", 50))]
    with Batcher(detector, "detect", threshold=0.1) as batcher:
        futures = [batcher.submit(path) for path in paths]
        assert [future.result(60) for future in futures] == [detector.detect(path, threshold=0.1) for path in paths]
    language = Runtime(tiny_language_bundle, engine, threads=1)
    items: list[Any] = ["the oil", [5, 7, 9], np.array([4, 8]), [{"role": "user", "content": "the price"}]]
    with Batcher(language, "generate", max_new_tokens=6) as batcher:
        futures = [batcher.submit(item) for item in items]
        assert [future.result(60) for future in futures] == [
            language.generate(item, max_new_tokens=6) for item in items
        ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"call": "infer"}, "the call 'infer'; expected one of classify, embed"),
        ({"call": "generate", "stream": True}, "stream=True; expected whole answers"),
        ({"max_rows": 0}, "max_rows=0; expected at least 1"),
        ({"max_waiting": 0}, "max_waiting=0"),
        ({"max_delay_ms": -1}, "max_delay_ms=-1; expected 0 to 60000"),
        ({"max_delay_ms": float("nan")}, "max_delay_ms=nan"),
    ],
)
def test_bad_settings_are_one_sentence(tiny_bundle: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Batcher(Runtime(tiny_bundle), **settings)


@pytest.mark.parametrize(
    ("item", "task", "timeout_s", "message"),
    [
        ({"input_ids": 1}, None, None, "an item of type dict; expected one input"),
        (5, None, None, "an item of type int"),
        ("w1", ["spam"], None, r"the task \['spam'\]; expected a name, or None"),
        ("w1", None, 0, "timeout_s=0; expected seconds, above 0"),
        ("w1", None, float("inf"), "timeout_s=inf"),
    ],
)
def test_bad_requests_are_refused_at_once(
    tiny_bundle: Path, item: Any, task: Any, timeout_s: float | None, message: str
) -> None:
    with Batcher(Runtime(tiny_bundle), "embed") as batcher, pytest.raises(InputError, match=message):
        batcher.submit(item, task, timeout_s)


def test_its_thread_ends_with_the_interpreter_which_answers_first(tiny_bundle: Path, engine: str) -> None:
    code = (
        "from edge_prompt_runtime import Runtime\nfrom edge_prompt_runtime.serving import Batcher\n"
        f"batcher = Batcher(Runtime({str(tiny_bundle)!r}, {engine!r}, threads=1), 'embed')\n"
        "for number in range(40):\n"
        "    batcher.submit('w1').add_done_callback(lambda future: print(future.result().shape))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert found.stdout.splitlines() == ["(32,)"] * 40
    assert not found.stderr


def test_a_cancelled_future_says_so(runtime: Runtime, gate: Gate) -> None:
    with Batcher(runtime, "embed") as batcher:
        first = running(batcher, gate)
        assert not first.cancel()
        second = batcher.submit("w2")
        assert second.cancel()
        gate.let_go.set()
    with pytest.raises(CancelledError):
        second.result(0)
