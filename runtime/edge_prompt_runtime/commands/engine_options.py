"""Options that configure the engine, shared by all commands that run a bundle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click


def cores_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option `--cores 2,3`, which the command receives as `[2, 3]`, or None if it is absent."""
    return click.option("--cores", callback=_cores, help="CPU cores to run on, for example 2,3.  [default: all]")(
        command
    )


def _cores(_context: click.Context, _option: click.Parameter, value: str | None) -> list[int] | None:
    if value is None:
        return None
    parts = [part.strip() for part in value.split(",")]
    if not all(part.isascii() and part.isdecimal() and len(part) < 6 for part in parts):
        raise click.BadParameter(f"{value!r} is not a list of cores such as 2,3")
    return [int(part) for part in parts]
