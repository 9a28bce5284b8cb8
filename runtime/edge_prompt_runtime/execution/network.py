"""Runs requests on an open graph, with the rows of a batch in as few runs as possible."""

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
    """A network on an engine. Thread-safe."""

    def groups(
        self, request: Request, tasks: Sequence[Task], outputs: Sequence[str]
    ) -> Iterator[tuple[list[int], Outputs]]:
        """Yield for each run the indices of its rows in the request, and one array `[rows, …]` per output."""


class GraphNetwork:
    """A network without state between requests; see `Network`.

    Args:
        engine: The open graph.
        input_names: Names of the graph's inputs.
        masked: Whether the graph takes a mask, so that rows with prompts of different lengths can run in one batch.
    """

    def __init__(self, engine: Engine, input_names: Sequence[str], *, masked: bool) -> None:
        self._engine = engine
        self._input_names = input_names
        self._masked = masked

    def groups(
        self, request: Request, tasks: Sequence[Task], outputs: Sequence[str]
    ) -> Iterator[tuple[list[int], Outputs]]:
        """Run all rows at once, unless the graph takes no mask and the rows differ in size or length of prompt."""
        together = [list(range(request.rows))] if self._masked else rows_that_run_together(request, tasks)
        for rows in together:
            own_tasks = [tasks[row] for row in rows]
            feeds = feeds_of(request.of_rows(rows), own_tasks, self._input_names, masked=self._masked)
            yield rows, self._engine.run(feeds, outputs)


def by_row(network: Network, request: Request, tasks: Sequence[Task], outputs: Sequence[str]) -> list[Outputs]:
    """Return the outputs of each row."""
    answers: list[Outputs] = [{}] * request.rows
    for rows, found in network.groups(request, tasks, outputs):
        for index, row in enumerate(rows):
            answers[row] = {name: array[index] for name, array in found.items()}
    return answers
