"""Worker: measures how fast its threads read memory, with numpy alone.

Each thread reduces half of an array, much larger than any cache, with operations that do little besides reading. The
operations take turns, and the fastest pass of a request counts: slower ones are not limited by memory.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.workers.protocol import THREADS, Answer, serve

BYTES = 1 << 30
PASSES = 3

READ: dict[str, Callable[[NDArray[Any]], Any]] = {
    "sum of int64": lambda array: array.view(np.int64).sum(),
    "or of int64": lambda array: np.bitwise_or.reduce(array.view(np.int64)),
    "max of float32": lambda array: array.max(),
}
"""Operations of numpy that read in the calling thread alone."""


def load() -> Answer:
    """Fill the array; the answer to any request is `{"bytes_per_second": …, "by": …}`."""
    array = np.ones(BYTES // np.dtype(np.float32).itemsize, np.float32)
    parts = np.array_split(array, THREADS)
    pool = ThreadPoolExecutor(THREADS)

    def answer(_: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, float] = {}
        for name, read in PASSES * list(READ.items()):
            start = perf_counter()
            list(pool.map(read, parts))
            found[name] = max(found.get(name, 0.0), BYTES / (perf_counter() - start))
        by = max(found, key=found.__getitem__)
        return {"bytes_per_second": found[by], "by": by}

    return answer


if __name__ == "__main__":
    serve(load, ("numpy",))
