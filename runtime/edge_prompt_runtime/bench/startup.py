"""Measuring load time, time to the first answer, and memory of a bundle in a fresh process.

A process that has done other work has already loaded libraries and holds memory that it has not released.
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
    "import time; begun = time.perf_counter_ns(); from edge_prompt_runtime.bench.startup import measure; measure(begun)"
)


class ProcessEndedError(Exception):
    """A fresh process ended without an answer, for example because it ran out of memory."""


class Start(NamedTuple):
    """The measurements of a fresh process.

    Attributes:
        load_ms: The time from the first import, including numpy, until the runtime is ready.
        first_ms: The time of the first answer after that.
        resident_mb: The resident memory after that answer; 0 if the system does not report it.
        peak_mb: The peak resident memory until then; 0 if the system does not report it.
    """

    load_ms: float
    first_ms: float
    resident_mb: float
    peak_mb: float


def start(
    bundle: Path, engine: str, request: Path, threads: int, cores: tuple[int, ...] | None, precision: str
) -> Start:
    """Load a bundle and run one request in a fresh process.

    Args:
        bundle: The folder of the bundle.
        engine: The engine.
        request: An `.npz` file with the arrays of the request.
        threads: The number of threads of the engine.
        cores: The cores to run on; None means all.
        precision: The precision of the computation.

    Raises:
        ProcessEndedError: The process ended without an answer.
    """
    asked = {"bundle": str(bundle), "engine": engine, "request": str(request), "threads": threads}
    asked |= {"cores": cores, "precision": precision}
    # the fresh process imports from the same paths as this one
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-P", "-c", CODE, json.dumps(asked)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)  # noqa: S603 - ours
    if ended.returncode:
        said = (ended.stderr.strip().splitlines() or [""])[-1][:200]
        raise ProcessEndedError(
            f"the fresh process for {engine} ended with {ended.returncode} before it answered ({said})"
        )
    return Start(**json.loads(ended.stdout.splitlines()[-1]))


def measure(begun_ns: int) -> None:
    """Measure in the fresh process, and print the fields of a `Start` as JSON."""
    asked: dict[str, Any] = json.loads(sys.argv[1])
    from edge_prompt_runtime.bench.answers import answer_to  # noqa: PLC0415 - imports are part of the measurement
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
