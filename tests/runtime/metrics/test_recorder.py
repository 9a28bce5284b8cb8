from __future__ import annotations

import gc
import json
import logging
import weakref
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, replace
from threading import Barrier

import pytest

from edge_prompt import Bundle
from edge_prompt.base.errors import InputError
from edge_prompt_runtime.generation.results import Piece
from edge_prompt_runtime.metrics.call import Call
from edge_prompt_runtime.metrics.recorder import MOST_ERRORS, MOST_REFUSALS, MOST_UNCOUNTED, Recorder
from edge_prompt_runtime.tasks.task import Task, base_task

PIECES = tuple(Piece(0, text, number) for number, text in enumerate("abc"))


class Service:
    """An object whose calls are counted."""

    def __init__(self, recorder: Recorder | None = None) -> None:
        self.recorder = recorder or Recorder()

    def answer(self, *tasks: Task) -> int:
        with Call("answer", self.recorder) as call:
            call.tasks = tasks
            return len(tasks)

    def fail(self, error: BaseException, *tasks: Task) -> None:
        with Call("fail", self.recorder) as call:
            call.tasks = tasks
            raise error

    def stream(self, task: Task, error: Exception | None = None) -> Generator[Piece]:
        with Call("stream", self.recorder) as call:
            call.tasks = [task]
            return call.watch(self._pieces(error))

    def _pieces(self, error: Exception | None) -> Generator[Piece]:
        yield from PIECES
        if error is not None:
            raise error


@pytest.fixture
def base(bundle: Bundle) -> Task:
    return base_task(bundle.manifest)


@pytest.fixture
def service() -> Service:
    return Service()


def named(base: Task, name: str) -> Task:
    return replace(base, name=name)


def test_a_call_counts_once_for_each_of_its_tasks(service: Service, base: Task) -> None:
    one, two = named(base, "one"), named(base, "two")
    assert service.answer(one) == 1
    assert service.answer(one, two, one, base) == 4
    stats = service.recorder.stats()
    assert (stats.total.requests, stats.total.rows, stats.total.errors) == (2, 5, 0)
    assert {task.name: (task.requests, task.rows) for task in stats.tasks} == {
        "one": (2, 3),
        "two": (1, 1),
        None: (1, 1),
    }
    latency = stats.total.latency
    assert latency is not None
    assert latency.count == 2
    assert 0 < latency.p50_ms <= latency.p95_ms <= latency.p99_ms <= latency.max_ms <= latency.total_ms
    assert stats.calls["answer"] == stats.total


def test_errors_are_counted_by_class_and_take_no_time(service: Service, base: Task) -> None:
    for error in (InputError(found="", wanted="", remedy=""), KeyboardInterrupt(), KeyboardInterrupt()):
        with pytest.raises(type(error)):
            service.fail(error, named(base, "one"))
    stats = service.recorder.stats()
    assert stats.errors == {"InputError": 1, "KeyboardInterrupt": 2}
    assert (stats.total.requests, stats.total.errors, stats.total.latency) == (3, 3, None)
    assert stats.tasks[0].errors == 3


def test_classes_of_errors_are_bounded(service: Service) -> None:
    for number in range(2 * MOST_ERRORS):
        error = type(f"Error{number}", (Exception,), {})()
        with pytest.raises(type(error)):
            service.fail(error)
    errors = service.recorder.stats().errors
    assert len(errors) == MOST_ERRORS + 1
    assert errors["other"] == MOST_ERRORS


def test_tasks_are_bounded_and_one_that_is_unloaded_makes_room(base: Task) -> None:
    service = Service(Recorder(most_tasks=3))
    for number in range(5):
        service.answer(named(base, f"task{number}"))
    service.answer(named(base, "task3"), named(base, "task4"), named(base, "task0"))
    stats = service.recorder.stats()
    assert [task.name for task in stats.tasks] == ["task0", "task1", "task2"]
    assert (stats.other.requests, stats.other.rows) == (3, 4)
    service.recorder.unloaded("task1")
    service.answer(named(base, "task4"))
    stats = service.recorder.stats()
    assert [task.name for task in stats.tasks] == ["task0", "task2", "task4"]
    assert (stats.other.requests, stats.other.rows, stats.unloads) == (4, 5, 1)
    assert stats.other.latency is not None
    assert stats.other.latency.count == 4


def test_no_call_of_any_thread_is_lost(base: Task) -> None:
    service, tasks, threads, calls = Service(), [named(base, f"task{number}") for number in range(3)], 8, 500
    together = Barrier(threads + 1)

    def ask(number: int) -> None:
        together.wait()
        for call in range(calls):
            service.answer(tasks[number % 3], tasks[call % 3])
            service.recorder.loaded("x", 1)
            if call % 100 == 0:
                with pytest.raises(ValueError, match="x"):
                    service.fail(ValueError("x"))

    with ThreadPoolExecutor(threads) as pool:
        done = [pool.submit(ask, number) for number in range(threads)]
        together.wait()
        while not all(future.done() for future in done):
            service.recorder.stats()
        for future in done:
            future.result()
    stats = service.recorder.stats()
    failed = threads * calls // 100
    assert (stats.total.requests, stats.total.errors) == (threads * calls + failed, failed)
    assert sum(task.rows for task in stats.tasks) == stats.total.rows == 2 * threads * calls
    assert stats.loads == threads * calls


def test_a_stream_lasts_until_its_last_piece(service: Service, base: Task) -> None:
    pieces = service.stream(named(base, "one"))
    assert service.recorder.stats().total.requests == 0
    assert tuple(pieces) == PIECES
    stats = service.recorder.stats()
    assert (stats.total.requests, stats.tokens, stats.tasks[0].name) == (1, 3, "one")
    assert stats.first_piece is not None
    assert stats.total.latency is not None
    assert 0 < stats.first_piece.max_ms <= stats.total.latency.max_ms


def test_a_stream_that_is_closed_is_answered_and_one_that_fails_is_an_error(service: Service, base: Task) -> None:
    pieces = service.stream(base)
    next(pieces)
    pieces.close()
    with pytest.raises(ValueError, match="x"):
        list(service.stream(base, ValueError("x")))
    stats = service.recorder.stats()
    assert (stats.total.requests, stats.total.errors, stats.tokens) == (2, 1, 4)


def test_a_stream_may_be_garbage_collected_while_calls_are_counted(service: Service, base: Task) -> None:
    pieces = service.stream(base)
    next(pieces)
    with service.recorder._lock:  # as if garbage collection ran now, on the thread that counts
        del pieces
        gc.collect()
    assert service.recorder.stats().total.requests == 1


def test_a_task_is_not_kept_by_having_been_asked_for(service: Service, base: Task) -> None:
    task = named(base, "one")
    gone = weakref.ref(task)
    service.answer(task)
    del task
    gc.collect()
    assert gone() is None


def test_a_call_ends_once(service: Service, base: Task) -> None:
    pieces = service.stream(base)
    assert tuple(pieces) == PIECES
    pieces.close()
    stats = service.recorder.stats()
    assert (stats.total.requests, stats.total.errors) == (1, 0)


def test_calls_are_counted_together_and_before_statistics_are_read(service: Service, base: Task) -> None:
    for number in range(1, 2 * MOST_UNCOUNTED + 3):
        service.answer(base)
        if number % 5 == 0:
            assert service.recorder.stats().total.requests == number
    assert service.recorder.stats().total.requests == 2 * MOST_UNCOUNTED + 2


def test_the_last_refusals_are_remembered_on_one_line_each(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "edge_prompt"):
        for number in range(MOST_REFUSALS + 3):
            service.recorder.refused(f"task{number}", ValueError("a\nb\x1b[31m" + 1000 * "x"))
        for _ in range(3):
            service.recorder.refused("again", ValueError("bad"))
    stats = service.recorder.stats()
    assert stats.refusals == MOST_REFUSALS + 6
    assert len(stats.recent_refusals) == MOST_REFUSALS
    assert stats.recent_refusals[0].reason.startswith("a\\nb\\x1b[31mxxx")
    assert len(stats.recent_refusals[0].reason) == 500
    assert caplog.text.count("'again'") == 1
    assert "\x1b" not in caplog.text


def test_held_bytes_are_read_with_the_stats(service: Service) -> None:
    sizes = [1, 2]
    service.recorder.register_memory("prompts", lambda: sum(sizes))
    assert service.recorder.stats().bytes_held == {"prompts": 3}
    sizes.append(4)
    assert service.recorder.stats().bytes_held == {"prompts": 7}


def test_stats_are_immutable_and_json(service: Service, base: Task) -> None:
    service.answer(named(base, "one"), base)
    service.recorder.refused("x", ValueError("bad"))
    stats = service.recorder.stats()
    with pytest.raises(FrozenInstanceError):
        stats.loads = 1  # type: ignore[misc]
    found = json.loads(stats.to_json())
    assert found["total"]["requests"] == 1
    assert [task["name"] for task in found["tasks"]] == ["one", None]
    assert found["recent_refusals"][0]["reason"] == "bad"
    assert found["since"].endswith("+00:00")
