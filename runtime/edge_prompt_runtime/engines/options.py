"""The options of engines, and the checks that do not depend on the engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_prompt.base.errors import InputError
from edge_prompt_runtime.engines.cores import require_cores

PRECISIONS = ("f32", "bf16")
"""Precisions that a graph can be computed in, however its weights are stored; int8 layers stay int8."""

CACHE_PRECISIONS = ("f16", "u8")
"""Precisions of the KV cache, besides the precision of the computation."""

MEMORY_ARENAS = ("kept", "shrunk", "none")
"""What happens to the memory of a finished request; see `EngineOptions.memory_arena`."""


@dataclass(frozen=True)
class EngineOptions:
    """How an engine runs a graph. None leaves a setting to the engine; unsupported options are refused.

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


DEFAULTS = EngineOptions()


def require_valid_options(options: EngineOptions) -> None:
    """Check the options that do not depend on the engine.

    Raises:
        InputError: A setting is out of range.
    """
    for what, found, known in (
        ("the precision", options.precision, PRECISIONS),
        ("the precision of the cache", options.cache_precision, (None, options.precision, *CACHE_PRECISIONS)),
        ("the memory arena", options.memory_arena, (None, *MEMORY_ARENAS)),
        ("spinning", options.spinning, (None, True, False)),
    ):
        if not any(found is value or (isinstance(found, str) and found == value) for value in known):
            wanted = ", ".join(str(value) for value in known if value is not None)
            raise InputError(
                found=f"{what} {found!r} is unknown", wanted=f"one of {wanted}", remedy="choose one of them"
            )
    if options.cores is not None:
        require_cores(options.cores)
    if options.threads is None:
        return
    most = None if options.cores is None else len(set(options.cores))
    if type(options.threads) is not int or options.threads < 1 or options.threads > (most or options.threads):
        raise InputError(
            found=f"threads={options.threads!r}" + ("" if most is None else f" was set for {most} core(s)"),
            wanted="an integer of at least 1" + ("" if most is None else f" and at most {most}"),
            remedy="pass the number of cores that the engine may keep busy, or leave it out",
        )
