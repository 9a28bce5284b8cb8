"""Running read requests on an opened graph, the rows of a batch together where they can be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from edge_prompt_runtime.engines.base import Engine
from edge_prompt_runtime.execution.feeds import feeds_of, rows_that_run_together
from edge_prompt_runtime.inputs.requests import Request
from edge_prompt_runtime.tasks.task import Task

Outputs = dict[str, NDArray[Any]]
"""Outputs of the graph by name."""


class Network(Protocol):
    """A network on an engine. Any number of threads may use one."""

    def groups(
        self, request: Request, tasks: Sequence[Task], outputs: Sequence[str]
    ) -> Iterator[tuple[list[int], Outputs]]:
        """The outputs of rows that run together: their numbers in the request, and `[rows, …]` an output."""


class GraphNetwork:
    """A network that keeps nothing between two requests; see `Network`.

    Args:
        engine: The opened graph.
        input_names: The graph's inputs.
        masked: Whether the graph masks, so that rows under prompts of different lengths run in one batch.
    """

    def __init__(self, engine: Engine, input_names: Sequence[str], *, masked: bool) -> None:
        self._engine = engine
        self._input_names = input_names
        self._masked = masked

    def groups(
        self, request: Request, tasks: Sequence[Task], outputs: Sequence[str]
    ) -> Iterator[tuple[list[int], Outputs]]:
        """All rows, unless they differ in size, or in length of prompt where nothing masks."""
        together = [list(range(request.rows))] if self._masked else rows_that_run_together(request, tasks)
        for rows in together:
            own_tasks = [tasks[row] for row in rows]
            feeds = feeds_of(request.of_rows(rows), own_tasks, self._input_names, masked=self._masked)
            yield rows, self._engine.run(feeds, outputs)


def by_row(network: Network, request: Request, tasks: Sequence[Task], outputs: Sequence[str]) -> list[Outputs]:
    """The outputs of each row by themselves."""
    answers: list[Outputs] = [{}] * request.rows
    for rows, found in network.groups(request, tasks, outputs):
        for index, row in enumerate(rows):
            answers[row] = {name: array[index] for name, array in found.items()}
    return answers
