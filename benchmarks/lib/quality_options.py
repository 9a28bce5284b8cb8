"""The options of the scripts about quality, and the budgets they choose from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import click


class Budget(NamedTuple):
    """The budget of every method.

    Attributes:
        tasks: The tasks.
        methods: The methods.
        examples: Training examples per task.
        epochs: Passes over them.
        test_rows: Maximum of scored rows.
        seeds: Number of seeds.
    """

    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    examples: int
    epochs: int
    test_rows: int
    seeds: int


Budgets = Mapping[str, Budget]
"""Budgets of a run with `quick`, without options, and with `whole`."""


def quality_options(
    tasks: Sequence[str], methods: Sequence[str], precision: str
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the options of a quality script: `whole`, and what `settings_of` takes as `asked`."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in (
            click.option("--whole", is_flag=True, help="All data and more seeds; takes hours."),
            click.option(
                "--precision", default=precision, show_default=True, help="Precision of training; scoring is in fp32."
            ),
            click.option("--seeds", type=int),
            click.option("--test-rows", type=int, help="Maximum of scored test rows."),
            click.option("--epochs", type=int),
            click.option("--examples", type=int, help="Training examples per task."),
            click.option("--method", "methods", type=click.Choice(methods), multiple=True),
            click.option("--task", "tasks", type=click.Choice(list(tasks)), multiple=True),
        ):
            command = option(command)
        return command

    return add


def settings_of(
    budgets: Budgets, asked: Mapping[str, Any], threads: int, *, quick: bool, whole: bool
) -> dict[str, Any]:
    """Return the budget, overridden by the options that were given."""
    budget = budgets["quick" if quick else "whole" if whole else ""]
    return {**budget._asdict(), "threads": threads, **{name: value for name, value in asked.items() if value}}
