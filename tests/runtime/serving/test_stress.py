"""Many threads, random tasks, faults, time limits and cancellations: each request gets one answer, its own."""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from threading import Lock
from typing import Any

import numpy as np
import pytest

from edge_prompt.base.errors import InputError, QueueFullError, RequestTimeoutError, UnknownTaskError
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.serving import Batcher
from tests.conftest import AssertClose, MakePrompt

THREADS, REQUESTS = 8, 60
LENGTHS = (1, 2, 5, 30)


@pytest.mark.parametrize("seed", [1, 2])
def test_every_request_gets_exactly_its_own_answer(  # noqa: C901 - all outcomes of a request
    runtime: Runtime, make_prompt: MakePrompt, assert_close: AssertClose, seed: int
) -> None:
    for name, kind, length in (("a", "soft", 1), ("b", "soft", 9), ("c", "prefix", 2), ("d", "prefix", 12)):
        runtime.load(name, make_prompt(name, kind, length=length))
    names = (None, *runtime.tasks)
    texts = [" ".join(f"w{(3 * length + place) % 190}" for place in range(length)) for length in LENGTHS]
    alone: dict[Any, Any] = {(text, name): runtime.embed(text, name) for text in texts for name in names}
    faults: dict[Any, type[Exception]] = {
        ("", "a"): InputError,
        (b"w1", None): InputError,
        ("w1", "unknown"): UnknownTaskError,
    }
    called: Counter[Future[Any]] = Counter()
    lock = Lock()

    def count(future: Future[Any]) -> None:
        with lock:
            called[future] += 1

    def asked(thread: int) -> list[tuple[Any, Future[Any] | None]]:
        chance = random.Random(100 * seed + thread)
        asked: list[tuple[Any, Future[Any] | None]] = []
        for _ in range(REQUESTS):
            row = text, name = chance.choice([*alone, *alone, *faults])
            try:
                future = batcher.submit(text, name, timeout_s=chance.choice([None, None, 60, 0.002]))
            except QueueFullError:
                asked.append((row, None))
                continue
            future.add_done_callback(count)
            if chance.random() < 0.1:
                future.cancel()
            elif chance.random() < 0.3:  # a caller that waits before its next request
                future.exception(60) if not future.cancelled() else None
            asked.append((row, future))
        return asked

    with Batcher(runtime, "embed", max_rows=5, max_waiting=40) as batcher, ThreadPoolExecutor(THREADS) as pool:
        found = [pair for pairs in pool.map(asked, range(THREADS)) for pair in pairs]
    assert len(found) == THREADS * REQUESTS
    ends: Counter[str] = Counter()
    for row, future in found:
        if future is None:
            ends["refused"] += 1
            continue
        assert future.done()
        try:
            answer = future.result(0)
        except CancelledError:
            ends["cancelled"] += 1
        except RequestTimeoutError:
            ends["late"] += 1
        except faults.get(row, ()):
            ends["bad"] += 1
        else:
            ends["answered"] += 1
            assert_close(answer, alone[row])
            assert np.isfinite(answer).all()
    assert ends["answered"] > 0
    assert ends["bad"] > 0
    taken = [future for _, future in found if future is not None]
    assert called == dict.fromkeys(taken, 1)
    assert batcher.waiting == 0
