"""What the scripts about quality are asked for: a budget, and what is said besides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import click


class Budget(NamedTuple):
    """What every method is given.

    Attributes:
        tasks: Which tasks.
        methods: Which methods.
        examples: Training examples a task.
        epochs: How often each is seen.
        test_rows: At most so many are scored.
        seeds: How many.
    """

    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    examples: int
    epochs: int
    test_rows: int
    seeds: int


Budgets = Mapping[str, Budget]
"""By how much time there is: `quick`, nothing said, or `whole`."""


def quality_options(
    tasks: Sequence[str], methods: Sequence[str], precision: str
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The options of a script, beside those of all scripts; `whole` and what `settings_of` takes as `asked`."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in (
            click.option("--whole", is_flag=True, help="All data, and more seeds: hours."),
            click.option("--precision", default=precision, show_default=True, help="Of training; scoring is in fp32."),
            click.option("--seeds", type=int),
            click.option("--test-rows", type=int, help="At most so many are scored."),
            click.option("--epochs", type=int),
            click.option("--examples", type=int, help="Training examples a task."),
            click.option("--method", "methods", type=click.Choice(methods), multiple=True),
            click.option("--task", "tasks", type=click.Choice(list(tasks)), multiple=True),
        ):
            command = option(command)
        return command

    return add


def settings_of(
    budgets: Budgets, asked: Mapping[str, Any], threads: int, *, quick: bool, whole: bool
) -> dict[str, Any]:
    """The budget with what was asked for in its place."""
    budget = budgets["quick" if quick else "whole" if whole else ""]
    return {**budget._asdict(), "threads": threads, **{name: value for name, value in asked.items() if value}}
