"""Settings of engines, and the checks that do not depend on the engine."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from edge_prompt.base.errors import InputError
from edge_prompt_runtime.engines.cores import require_cores

PRECISIONS = ("f32", "bf16")
"""Precisions that a graph can be computed in, however its weights are stored; int8 layers stay int8."""

CACHE_PRECISIONS = ("f16", "u8")
"""Precisions of the KV cache, besides the precision of the computation."""

MEMORY_ARENAS = ("kept", "shrunk", "none")
"""What happens to the memory of a finished request; see `EngineSettings.memory_arena`."""


class EngineSettings(NamedTuple):
    """How an engine runs a graph. None leaves a setting to the engine; unsupported settings are refused.

    Attributes:
        threads: Number of threads that the engine may use.
        precision: Precision of the computation, one of `PRECISIONS`.
        cache_precision: Precision of the KV cache, one of `CACHE_PRECISIONS`; None uses `precision`.
        model_cache: Folder in which the engine stores its optimised form of the graph, so that it opens faster the next
            time. The stored form is rebuilt when the graph, the engine or the machine changes.
        cores: Logical processors to compute on; None uses all. A thread that calls the engine computes too, and is
            pinned to these cores during the call.
        spinning: Whether idle threads keep their cores busy, so that they start sooner: always, or never; None lets
            them spin only while a request runs.
        memory_arena: What happens to the memory of a finished request: `kept` for the next request, `shrunk` after each
            request, or `none` to allocate from the system without an arena.
    """

    threads: int | None = None
    precision: str = "f32"
    cache_precision: str | None = None
    model_cache: Path | None = None
    cores: tuple[int, ...] | None = None
    spinning: bool | None = None
    memory_arena: str | None = None


DEFAULTS = EngineSettings()


def require_sound(settings: EngineSettings) -> None:
    """Check the settings that do not depend on the engine.

    Raises:
        InputError: A setting is out of range.
    """
    for what, found, known in (
        ("the precision", settings.precision, PRECISIONS),
        ("the precision of the cache", settings.cache_precision, (None, settings.precision, *CACHE_PRECISIONS)),
        ("the memory arena", settings.memory_arena, (None, *MEMORY_ARENAS)),
        ("spinning", settings.spinning, (None, True, False)),
    ):
        if not any(found is value or (isinstance(found, str) and found == value) for value in known):
            wanted = ", ".join(str(value) for value in known if value is not None)
            raise InputError(
                found=f"{what} {found!r} is unknown", wanted=f"one of {wanted}", remedy="choose one of them"
            )
    if settings.cores is not None:
        require_cores(settings.cores)
    if settings.threads is None:
        return
    most = None if settings.cores is None else len(set(settings.cores))
    if type(settings.threads) is not int or settings.threads < 1 or settings.threads > (most or settings.threads):
        raise InputError(
            found=f"threads={settings.threads!r}" + ("" if most is None else f" was set for {most} core(s)"),
            wanted="an integer of at least 1" + ("" if most is None else f" and at most {most}"),
            remedy="pass the number of cores that the engine may keep busy, or leave it out",
        )
