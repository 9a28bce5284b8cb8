"""The tasks that a runtime serves, by name: those loaded explicitly, and those in its prompt folders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from edge_prompt.base.errors import EdgePromptError, MissingFileError, UnknownTaskError
from edge_prompt.formats.bundle import Bundle
from edge_prompt.formats.prompt import PROMPT_SUFFIX
from edge_prompt_runtime.metrics.recorder import Recorder
from edge_prompt_runtime.tasks.folders import PromptFolders
from edge_prompt_runtime.tasks.store import TaskStore
from edge_prompt_runtime.tasks.task import Fold, Task, base_task, load_task

TaskName = str | None
"""The name a prompt was loaded under; None is the base model."""

MOST_NAMED = 20
"""The most tasks that an error message lists."""


class TaskRegistry:
    """All tasks of a runtime. Thread-safe: a task is never changed, only replaced.

    Args:
        bundle: The bundle that prompts must fit.
        fold: Folds a deep prompt into a prefix.
        prepare: Called with a task and its file before the task is served.
        forget: Called with a task that is no longer served.
        folders: Folders of prompts that are served without being loaded first.
        budget_bytes: Memory budget for the prompts of these folders.
        recorder: Records requests, loads, evictions and refusals.

    Attributes:
        store: Tasks of the prompt folders.

    Raises:
        MissingFileError: A folder does not exist.
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
        """Names of the tasks that were loaded, in that order, then of those in the folders."""
        return tuple(dict.fromkeys([*self._tasks, *self.store.folders.names()]))

    @property
    def in_memory(self) -> list[Task]:
        """The tasks that are in memory."""
        return [*list(self._tasks.values()), *self.store.in_memory.values()]

    def find(self, name: TaskName) -> Task:
        """Return the task called `name`; see `Runtime.task`."""
        if name is None:
            return self._base
        found = self._tasks.get(name) or self.store.find(name)
        if found is None:
            raise self._unknown(name)
        return found

    def find_all(self, task: TaskName | Sequence[TaskName]) -> Task | list[Task]:
        """Return one task for one name, or one task per name.

        Raises:
            UnknownTaskError: No task is loaded under a name.
        """
        return self.find(task) if task is None or isinstance(task, str) else [self.find(name) for name in task]

    def load(self, name: str, path: Path, kind: str | None) -> None:
        """Load a prompt; see `Runtime.load`."""
        self._serve({name: self._prepared(name, path, kind)})

    def load_all(self, folder: Path) -> tuple[str, ...]:
        """Load all prompts in a folder; see `Runtime.load_all`."""
        if not folder.is_dir():
            raise MissingFileError(
                found=f"{folder}: no such folder", wanted="a folder of prompts", remedy="check the path"
            )
        loaded: dict[str, Task] = {}
        try:
            for path in sorted(folder.glob(f"*{PROMPT_SUFFIX}")):
                loaded[path.stem] = self._prepared(path.stem, path)
        except BaseException:  # all prompts are loaded, or none
            for task in loaded.values():
                self._forget(task)
            raise
        self._serve(loaded)
        return tuple(loaded)

    def unload(self, name: str) -> None:
        """Unload a task; see `Runtime.unload`."""
        task = self._tasks.pop(name, None)
        if task is None:
            raise self._unknown(name)
        self._forget(task)
        self._recorder.unloaded(name)

    def pin(self, name: str) -> None:
        """Pin a task; see `Runtime.pin`."""
        if self.store.pin(name) is None:
            raise self._unknown(name)

    def _prepared(self, name: str, path: Path, kind: str | None = None) -> Task:
        """Read a task and prepare it for serving."""
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
            found=f"no task {name[:80]!r} is loaded",
            wanted=f"one of {', '.join(names[:MOST_NAMED])}{more}" if names else "a loaded task (there are none)",
            remedy="load its prompt first",
        )

    def _serve(self, tasks: Mapping[str, Task]) -> None:
        """Serve prepared tasks from now on."""
        replaced = [self._tasks[name] for name in tasks if name in self._tasks]
        self._tasks.update(tasks)
        for name, task in tasks.items():
            self._recorder.loaded(name, task.size_bytes)
        for task in replaced:
            self._forget(task)
            self._recorder.replaced(task.name)
