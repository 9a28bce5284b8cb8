"""How an engine runs a graph: what may be asked for, whatever the engine."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from edge_prompt.base.errors import InputError
from edge_prompt_runtime.engines.cores import require_cores

PRECISIONS = ("f32", "bf16")
"""What a graph may be computed in, whatever its weights are stored in; int8 layers of an int8 graph stay int8."""

CACHE_PRECISIONS = ("f16", "u8")
"""What keys and values may be kept in, other than in what is computed in."""

MEMORY_ARENAS = ("kept", "shrunk", "none")
"""What becomes of the memory that a request was computed in; see `EngineSettings.memory_arena`."""


class EngineSettings(NamedTuple):
    """How an engine runs a graph. None leaves it to the engine; what an engine cannot do is refused.

    Attributes:
        threads: How many threads it may use.
        precision: One of `PRECISIONS`: what it computes in.
        cache_precision: What it keeps keys and values in: one of `CACHE_PRECISIONS`; None is `precision`.
        model_cache: A folder for its own optimised form of the graph, so that it opens faster the next time; made anew
            where the graph, the engine or the machine has changed.
        cores: The logical processors that it computes on; None is all. A thread that asks computes, too, and is kept on
            them meanwhile.
        spinning: Whether threads that wait for work keep their cores busy, so that they begin sooner: always, or never;
            None does so while a request runs.
        memory_arena: Memory that a request was computed in is `kept` for the next, `shrunk` after each request, or
            taken from the system piece by piece, for `none`.
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
    """Refuse settings that no engine has.

    Raises:
        InputError: A setting is out of its range.
    """
    for what, found, known in (
        ("the precision", settings.precision, PRECISIONS),
        ("the precision of the cache", settings.cache_precision, (None, settings.precision, *CACHE_PRECISIONS)),
        ("the memory arena", settings.memory_arena, (None, *MEMORY_ARENAS)),
        ("spinning", settings.spinning, (None, True, False)),
    ):
        if not any(found is value or (isinstance(found, str) and found == value) for value in known):
            wanted = ", ".join(str(value) for value in known if value is not None)
            raise InputError(found=f"{what} {found!r}", wanted=f"one of {wanted}", remedy="choose one of them")
    if settings.cores is not None:
        require_cores(settings.cores)
    if settings.threads is None:
        return
    most = None if settings.cores is None else len(set(settings.cores))
    if type(settings.threads) is not int or settings.threads < 1 or settings.threads > (most or settings.threads):
        raise InputError(
            found=f"{settings.threads!r} threads" + ("" if most is None else f" on {most} cores"),
            wanted="a whole number, 1 at least" + ("" if most is None else f" and {most} at most"),
            remedy="choose as many as cores that may be busy, or leave it out",
        )
