"""The protocol of workers and the benchmark: one line of JSON per message, on the worker's standard streams.

The worker loads and sends `{"load_ms": …, "versions": {…}}`, or `{"error": …}`. Then it answers each request until one
is `{"stop": true}`, which it answers with its memory. Only the standard library is imported here, because this runs in
every peer's environment, and its own cost would be counted.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any, TextIO

Take = Callable[[int], None]
"""Takes a token as soon as a user would see it."""

Generate = Callable[[list[int], int, Take], None]
"""Generates that many tokens greedily, whatever they are, and passes each to the third argument."""

Answer = Callable[[dict[str, Any]], dict[str, Any]]

THREADS_VARIABLE = "EDGE_PROMPT_BENCH_THREADS"
THREADS = int(os.environ.get(THREADS_VARIABLE, "2"))

PARENT_DEATH_SIGNAL = 1
"""Linux's `prctl` option for the signal that ends this process when its parent ends."""


def serve(load: Callable[[], Answer], packages: Sequence[str]) -> None:
    """Load, then answer the requests on standard input until told to stop.

    Args:
        load: Loads the pipeline; only this is timed as loading, not the imports before it.
        packages: The distributions whose versions are reported.
    """
    replies = _own_output()
    ctypes.CDLL(None).prctl(
        PARENT_DEATH_SIGNAL, signal.SIGKILL
    )  # a stopped process would not notice the end of its input
    try:
        start = perf_counter()
        answer = load()
        load_ms = 1000 * (perf_counter() - start)
        _say(replies, {"load_ms": load_ms, "versions": {name: version(name) for name in packages}})
        for line in sys.stdin:
            request = json.loads(line)
            if "stop" in request:
                _say(replies, memory())
                return
            _say(replies, answer(request))
    except Exception as error:  # noqa: BLE001 - the benchmark must learn of anything that a peer raises
        traceback.print_exc()
        _say(replies, {"error": f"{type(error).__name__}: {error}"})


def timed(generate: Generate) -> Answer:
    """Answer `{"tokens": […], "new_tokens": …}`: the new tokens and the times of the first one and of all.

    `all_ms` is the end of the call, so work after the last token counts.
    """

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        tokens: list[int] = []
        times: list[float] = []

        def take(token: int) -> None:
            times.append(perf_counter())
            tokens.append(token)

        start = perf_counter()
        generate(request["tokens"], request["new_tokens"], take)
        end = perf_counter()
        if len(tokens) != request["new_tokens"]:
            message = f"{len(tokens)} tokens were generated instead of {request['new_tokens']}"
            raise RuntimeError(message)
        return {"tokens": tokens, "first_ms": 1000 * (times[0] - start), "all_ms": 1000 * (end - start)}

    return answer


def memory() -> dict[str, int]:
    """Return peak memory, resident memory and its part that is not backed by a file, in bytes.

    Linux's own count of this process is read: that of `getrusage` starts with the memory of the parent when it forked.
    """
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    fields = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    return {
        "peak_bytes": 1024 * int(fields["VmHWM"][0]),
        "anonymous_bytes": 1024 * int(fields["RssAnon"][0]),
    }


def _own_output() -> TextIO:
    """Return a stream for replies alone: what libraries print goes to standard error."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return replies


def _say(replies: TextIO, value: dict[str, Any]) -> None:
    replies.write(json.dumps(value) + "\n")
    replies.flush()
