"""One open graph and many threads: callers own their answers, and the pool grows only to the peak of concurrency."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from edge_prompt.base.errors import UnknownTaskError
from edge_prompt_runtime import Runtime
from tests.conftest import AssertClose, MakePrompt
from tests.runtime.language.conftest import language, prompts, tasks  # noqa: F401 - fixtures

THREADS = 8
TEXTS = [" ".join(f"w{(7 * length + place) % 190}" for place in range(length)) for length in (1, 3, 8, 20, 40)]
LANGUAGE_TEXTS = ["the oil price", "x", "the meeting of the ministers of the oil states rose after the price"]


def kept(runtime: Runtime, pool: str) -> int:
    """Number of idle infer requests on OpenVINO; ONNX Runtime has none."""
    return len(getattr(runtime.network.engine, pool)) if runtime.engine == "openvino" else 0


def test_batches_of_any_tasks_and_lengths(runtime: Runtime, make_prompt: MakePrompt, assert_close: AssertClose) -> None:
    for name, kind, length in (("a", "soft", 1), ("b", "soft", 7), ("c", "prefix", 3), ("d", "prefix", 7)):
        runtime.load(name, make_prompt(name, kind, length=length))
    names = (None, *runtime.tasks)
    alone = {(text, name): runtime.embed(text, name) for text in TEXTS for name in names}

    def asked(number: int) -> tuple[list[Any], Any]:
        chance = random.Random(number)
        rows = chance.choices(list(alone), k=chance.randint(1, 6))
        if number % 10 == 0:
            with pytest.raises(UnknownTaskError):
                runtime.embed(TEXTS[0], "unknown")
        return rows, runtime.embed([text for text, _ in rows], [name for _, name in rows])

    with ThreadPoolExecutor(THREADS) as pool:
        for rows, found in pool.map(asked, range(240)):
            assert_close(found, np.stack([alone[row] for row in rows]))
    assert kept(runtime, "_idle") <= THREADS


def test_texts_generated_whole_and_in_streams_some_of_them_left(tasks: Runtime) -> None:  # noqa: F811
    names = (None, *tasks.tasks)
    rows = [(text, name) for text in LANGUAGE_TEXTS for name in names]
    alone: dict[Any, Any] = {row: tasks.generate(*row, max_new_tokens=8) for row in rows}

    def asked(number: int) -> None:
        chance = random.Random(number)
        row = chance.choice(rows)
        together = chance.sample(rows, 2)
        match number % 4:
            case 0:
                assert tasks.generate(*row, max_new_tokens=8) == alone[row]
            case 1:
                found = tasks.generate([text for text, _ in together], [name for _, name in together], max_new_tokens=8)
                assert found == [alone[one] for one in together]
            case 2:
                pieces = list(tasks.generate(*row, stream=True, max_new_tokens=8))
                assert tuple(piece.token for piece in pieces) == alone[row].tokens
            case _:
                stream = tasks.generate(*row, stream=True, max_new_tokens=8)
                assert next(stream).token == alone[row].tokens[0]
                stream.close()

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(asked, range(120)))
    assert kept(tasks, "_idle_cached") <= THREADS
