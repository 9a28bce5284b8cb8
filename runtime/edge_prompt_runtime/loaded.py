"""The tasks that a runtime has loaded, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edge_prompt.bundle import Bundle
from edge_prompt.errors import InputError, MissingFileError, UnknownTaskError
from edge_prompt.prompt import PROMPT_SUFFIX
from edge_prompt_runtime.tasks import Fold, Task, base_task, load_task

TaskName = str | None
"""The name a prompt was loaded under; None is the base model."""


class LoadedTasks:
    """Any number of threads may use one: a task is never changed, only replaced.

    Args:
        bundle: The bundle that prompts must be for.
        fold: What makes a prefix of a deep prompt.
        prepare: Called with a task and its file before it is served.
        forget: Called with a task that is no longer served.
    """

    def __init__(
        self, bundle: Bundle, fold: Fold, prepare: Callable[[Task, Path], None], forget: Callable[[Task], None]
    ) -> None:
        self._bundle = bundle
        self._fold = fold
        self._prepare = prepare
        self._forget = forget
        self._base = base_task(bundle.manifest)
        self._tasks: dict[str, Task] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """In the order they were loaded."""
        return tuple(self._tasks)

    def find(self, name: TaskName) -> Task:
        """See `Runtime.task`."""
        if name is None:
            return self._base
        found = self._tasks.get(name)
        if found is None:
            raise UnknownTaskError(
                found=f"the task {name!r}",
                wanted=f"one of {', '.join(self._tasks) or 'those loaded (none is)'}",
                remedy="load its prompt first",
            )
        return found

    def of_rows(self, task: TaskName | Sequence[TaskName], rows: int) -> list[Task]:
        """The task of each row: one for all, or as many as rows.

        Raises:
            UnknownTaskError: Nothing is loaded under a name.
            InputError: There is no row, or rows and tasks differ in number.
        """
        if rows == 0:
            raise InputError(found="no row", wanted="at least one", remedy="leave out empty requests")
        if task is None or isinstance(task, str):
            return [self.find(task)] * rows
        if len(task) != rows:
            raise InputError(
                found=f"{rows} rows and {len(task)} tasks",
                wanted="a task a row",
                remedy="pass one task, or as many as rows",
            )
        return [self.find(name) for name in task]

    def load(self, name: str, path: Path, kind: str | None) -> None:
        """See `Runtime.load`."""
        self._serve({name: load_task(name, path, kind, self._bundle, self._base, self._fold)}, [path])

    def load_all(self, folder: Path) -> tuple[str, ...]:
        """See `Runtime.load_all`."""
        if not folder.is_dir():
            raise MissingFileError(
                found=f"{folder}: no such folder", wanted="a folder of prompts", remedy="check the path"
            )
        paths = sorted(folder.glob(f"*{PROMPT_SUFFIX}"))
        loaded = {path.stem: load_task(path.stem, path, None, self._bundle, self._base, self._fold) for path in paths}
        self._serve(loaded, paths)
        return tuple(loaded)

    def unload(self, name: str) -> None:
        """See `Runtime.unload`."""
        task = self.find(name)
        self._tasks.pop(name, None)
        self._forget(task)

    def _serve(self, tasks: Mapping[str, Task], paths: Sequence[Path]) -> None:
        """Serve tasks, read from `paths`, from now on; if one cannot be prepared, none is served."""
        try:
            for task, path in zip(tasks.values(), paths, strict=True):
                self._prepare(task, path)
        except BaseException:
            for task in tasks.values():
                self._forget(task)
            raise
        replaced = [self._tasks[name] for name in tasks if name in self._tasks]
        self._tasks.update(tasks)
        for task in replaced:
            self._forget(task)
