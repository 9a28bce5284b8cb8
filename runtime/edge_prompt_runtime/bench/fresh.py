"""Loading a bundle in a process of its own: how long until it can be asked and has answered, and what memory it takes.

A process that has done other things before has libraries loaded and memory that it did not give back.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter_ns
from typing import Any, NamedTuple

CODE = (
    "import time; begun = time.perf_counter_ns(); from edge_prompt_runtime.bench.fresh import measure; measure(begun)"
)


class EndedError(Exception):
    """A fresh process ended without an answer, for want of memory perhaps."""


class Start(NamedTuple):
    """What a fresh process took.

    Attributes:
        load_ms: From the first import, numpy's among them, to a runtime that can be asked.
        first_ms: The first answer after that.
        resident_mb: What was in memory after that answer; 0 where the system does not say.
        peak_mb: The most that ever was until then; 0 where the system does not say.
    """

    load_ms: float
    first_ms: float
    resident_mb: float
    peak_mb: float


def start(
    bundle: Path, engine: str, request: Path, threads: int, cores: tuple[int, ...] | None, precision: str
) -> Start:
    """Load a bundle and ask it once, in a fresh process.

    Args:
        bundle: The bundle's folder.
        engine: The engine.
        request: An `.npz` file with the arrays of the request.
        threads: Threads of the engine.
        cores: The cores to compute on; None is all.
        precision: What it computes in.

    Raises:
        EndedError: The process ended without an answer.
    """
    asked = {"bundle": str(bundle), "engine": engine, "request": str(request), "threads": threads}
    asked |= {"cores": cores, "precision": precision}
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }  # where it is imported from here
    command = [sys.executable, "-P", "-c", CODE, json.dumps(asked)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)  # noqa: S603 - ours
    if ended.returncode:
        said = (ended.stderr.strip().splitlines() or [""])[-1][:200]
        raise EndedError(f"a fresh process with {engine} ended with {ended.returncode} before it answered ({said})")
    return Start(**json.loads(ended.stdout.splitlines()[-1]))


def measure(begun_ns: int) -> None:
    """In the fresh process: print what a `Start` holds, as JSON."""
    asked: dict[str, Any] = json.loads(sys.argv[1])
    from edge_prompt_runtime.bench.answers import answer_to  # noqa: PLC0415 - imports are a part of what is measured
    from edge_prompt_runtime.bench.machine import peak_resident_bytes, resident_bytes  # noqa: PLC0415
    from edge_prompt_runtime.runtime import Runtime  # noqa: PLC0415

    runtime = Runtime(
        asked["bundle"], asked["engine"], asked["threads"], precision=asked["precision"], cores=asked["cores"]
    )
    loaded_ns = perf_counter_ns()
    import numpy as np  # noqa: PLC0415

    with np.load(asked["request"], allow_pickle=False) as file:
        arrays = dict(file)
    answer, asked_ns = answer_to(runtime, arrays, None), perf_counter_ns()
    answer()
    answered_ns = perf_counter_ns()
    found = Start(
        (loaded_ns - begun_ns) / 1e6,
        (answered_ns - asked_ns) / 1e6,
        resident_bytes() / 1e6,
        peak_resident_bytes() / 1e6,
    )
    sys.stdout.write(f"\n{json.dumps(found._asdict())}\n")
