"""Options that say how an engine runs, the same for every command that answers requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


def cores_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option `--cores 2,3`, given to the command as `[2, 3]`, or None."""
    return click.option("--cores", callback=_cores, help="Compute on these alone, as in 2,3.  [default: all]")(command)


def _cores(_context: click.Context, _option: click.Parameter, value: str | None) -> list[int] | None:
    if value is None:
        return None
    parts = [part.strip() for part in value.split(",")]
    if not all(part.isascii() and part.isdecimal() and len(part) < 6 for part in parts):
        raise click.BadParameter(f"{value!r} is no list of cores, such as 2,3")
    return [int(part) for part in parts]
