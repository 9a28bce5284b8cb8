"""The tasks that a runtime serves, by name: those that were loaded, and those of a store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edge_prompt.base.errors import EdgePromptError, InputError, MissingFileError, UnknownTaskError
from edge_prompt.formats.bundle import Bundle
from edge_prompt.formats.prompt import PROMPT_SUFFIX
from edge_prompt_runtime.metrics.recorder import Recorder
from edge_prompt_runtime.tasks.folders import PromptFolders
from edge_prompt_runtime.tasks.store import TaskStore
from edge_prompt_runtime.tasks.task import Fold, Task, base_task, load_task

TaskName = str | None
"""The name a prompt was loaded under; None is the base model."""

MOST_NAMED = 20
"""Tasks that a message names."""


class LoadedTasks:
    """Any number of threads may use one: a task is never changed, only replaced.

    Args:
        bundle: The bundle that prompts must be for.
        fold: What makes a prefix of a deep prompt.
        prepare: Called with a task and its file before it is served.
        forget: Called with a task that is no longer served.
        folders: Of prompts that are served without being loaded first.
        budget_bytes: How much memory these may take.
        recorder: Told what is asked for, loaded, let go and refused.

    Attributes:
        store: The tasks of the folders.

    Raises:
        MissingFileError: There is no such folder.
    """

    def __init__(
        self,
        bundle: Bundle,
        fold: Fold,
        prepare: Callable[[Task, Path], None],
        forget: Callable[[Task], None],
        folders: Sequence[Path] = (),
        budget_bytes: int = 0,
        recorder: Recorder | None = None,
    ) -> None:
        self._bundle = bundle
        self._fold = fold
        self._prepare = prepare
        self._forget = forget
        self._base = base_task(bundle.manifest)
        self._tasks: dict[str, Task] = {}
        self._recorder = recorder or Recorder()
        found = PromptFolders(folders, signed=bundle.signatures is not None)
        self.store = TaskStore(found, budget_bytes, self._of_store, forget, self._recorder)

    @property
    def names(self) -> tuple[str, ...]:
        """Those that were loaded, in that order, then those of the folders."""
        return tuple(dict.fromkeys([*self._tasks, *self.store.folders.names()]))

    @property
    def kept(self) -> list[Task]:
        """What is in memory."""
        return [*list(self._tasks.values()), *self.store.kept.values()]

    def find(self, name: TaskName) -> Task:
        """See `Runtime.task`."""
        if name is None:
            return self._base
        found = self._tasks.get(name) or self.store.find(name)
        if found is None:
            raise self._unknown(name)
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
            found = [self.find(task)] * rows
        elif len(task) != rows:
            raise InputError(
                found=f"{rows} rows and {len(task)} tasks",
                wanted="a task a row",
                remedy="pass one task, or as many as rows",
            )
        else:
            found = [self.find(name) for name in task]
        self._recorder.asked(found)
        return found

    def load(self, name: str, path: Path, kind: str | None) -> None:
        """See `Runtime.load`."""
        self._serve({name: self._prepared(name, path, kind)})

    def load_all(self, folder: Path) -> tuple[str, ...]:
        """See `Runtime.load_all`."""
        if not folder.is_dir():
            raise MissingFileError(
                found=f"{folder}: no such folder", wanted="a folder of prompts", remedy="check the path"
            )
        loaded: dict[str, Task] = {}
        try:
            for path in sorted(folder.glob(f"*{PROMPT_SUFFIX}")):
                loaded[path.stem] = self._prepared(path.stem, path)
        except BaseException:  # if one cannot be served, none is
            for task in loaded.values():
                self._forget(task)
            raise
        self._serve(loaded)
        return tuple(loaded)

    def unload(self, name: str) -> None:
        """See `Runtime.unload`."""
        task = self._tasks.pop(name, None)
        if task is None:
            raise self._unknown(name)
        self._forget(task)
        self._recorder.unloaded(name)

    def pin(self, name: str) -> None:
        """See `Runtime.pin`."""
        if self.store.pin(name) is None:
            raise self._unknown(name)

    def _prepared(self, name: str, path: Path, kind: str | None = None) -> Task:
        """Read a task and make it ready to be served."""
        try:
            task = load_task(name, path, kind, self._bundle, self._base, self._fold)
            try:
                self._prepare(task, path)
            except BaseException:
                self._forget(task)
                raise
        except EdgePromptError as error:
            self._recorder.refused(name, error)
            raise
        return task

    def _of_store(self, name: str, path: Path) -> Task:
        task = self._prepared(name, path)
        self._recorder.loaded(name, task.size_bytes)
        return task

    def _unknown(self, name: str) -> UnknownTaskError:
        names = self.names
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        return UnknownTaskError(
            found=f"the task {name[:80]!r}",
            wanted=f"one of {', '.join(names[:MOST_NAMED])}{more}" if names else "one of those loaded (none is)",
            remedy="load its prompt first",
        )

    def _serve(self, tasks: Mapping[str, Task]) -> None:
        """Serve tasks, which are ready, from now on."""
        replaced = [self._tasks[name] for name in tasks if name in self._tasks]
        self._tasks.update(tasks)
        for name, task in tasks.items():
            self._recorder.loaded(name, task.size_bytes)
        for task in replaced:
            self._forget(task)
            self._recorder.replaced(task.name)
