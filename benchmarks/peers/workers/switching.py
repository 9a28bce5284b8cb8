"""Shared code of workers that switch between two adapters or prompts. The second is the first with its sign flipped.

Only the standard library and numpy are imported here, because this runs in every peer's environment.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np

from benchmarks.peers.workers.protocol import Answer

NAMES = ("first", "second")


class Generated(NamedTuple):
    """The outcome of a request under an adapter.

    Attributes:
        tokens: The new tokens.
        switch_us: Time of the call that switches the adapter; None if there is no such call, or none was needed.
    """

    tokens: list[int]
    switch_us: float | None = None


Generate = Callable[[str, list[int], int], Generated]
"""Generates that many tokens greedily under an adapter."""


def switching(generate: Generate) -> Answer:
    """Answer `{"adapter": NAME, "tokens": […], "new_tokens": …}`: the new tokens and the time of everything."""

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        start = perf_counter()
        found = generate(request["adapter"], request["tokens"], request["new_tokens"])
        return {"all_ms": 1000 * (perf_counter() - start), **found._asdict()}

    return answer


def turned_adapter(source: Path, target: Path) -> Path:
    """Write a LoRA in safetensors with the sign of its second matrices flipped, so that it adds the opposite."""
    content = bytearray(source.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    for name, tensor in json.loads(content[8:start]).items():
        if "lora_B" in name:
            begin, end = (start + offset for offset in tensor["data_offsets"])
            content[begin:end] = (-np.frombuffer(content[begin:end], np.float32)).tobytes()
    target.write_bytes(content)
    return target
