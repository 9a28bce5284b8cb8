"""The methods of a runtime that load, pin, refresh and unload tasks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_prompt_runtime.tasks.deep_prompts import DeepPromptFolder
    from edge_prompt_runtime.tasks.registry import TaskName, TaskRegistry
    from edge_prompt_runtime.tasks.store import Refreshed, TaskStore
    from edge_prompt_runtime.tasks.task import Task
    from edge_prompt_runtime.tasks.watch import Watcher


class TaskMethods:
    """The part of `Runtime` that manages tasks.

    Attributes:
        store: Tasks of the prompt folders.
    """

    store: TaskStore
    _loaded: TaskRegistry
    _fold: DeepPromptFolder

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the loaded tasks in the order they were loaded, then of those in folders, sorted."""
        return self._loaded.names

    def task(self, name: TaskName) -> Task:
        """Return the task loaded under `name`; None is the base model.

        Raises:
            UnknownTaskError: No task is loaded under that name.
        """
        return self._loaded.find(name)

    def load(self, name: str, path: str | Path, kind: str | None = None) -> None:
        """Load a prompt as task `name`; it replaces an older task of that name.

        The first deep prompt opens the fold graph, which then stays in memory; see `release_fold_graph`.

        Args:
            name: Name of the task.
            path: The `.npy` file; its card and head are in the same folder.
            kind: Kind of the prompt, for a bare `.npy` file whose shape does not determine it.

        Raises:
            EdgePromptError: The prompt is malformed or does not fit this bundle; an older task of that name stays.
        """
        self._loaded.load(name, Path(path), kind)

    def load_all(self, folder: str | Path) -> tuple[str, ...]:
        """Load every prompt in `folder` under its file name; if one prompt is refused, none is loaded.

        Returns:
            The names of the tasks.

        Raises:
            MissingFileError: The folder does not exist.
            EdgePromptError: A prompt is malformed or does not fit this bundle.
        """
        return self._loaded.load_all(Path(folder))

    def unload(self, name: str) -> None:
        """Unload the task `name`; running requests finish with it.

        Raises:
            UnknownTaskError: No task is loaded under that name.
        """
        self._loaded.unload(name)

    def pin(self, name: str) -> None:
        """Read the task `name` from the folders now, and keep it in memory regardless of the budget until `unpin`.

        Raises:
            UnknownTaskError: The folders have no task of that name.
            EdgePromptError: The prompt is malformed or does not fit this bundle.
        """
        self._loaded.pin(name)

    def unpin(self, name: str) -> None:
        """Allow the task `name` to be evicted again."""
        self.store.unpin(name)

    def refresh(self) -> Refreshed:
        """Check the prompt folders for changes while requests run; each request finishes with the prompt it began with.

        A replaced file is used from the next request on; if it is refused, the old prompt stays in use. New files need
        no refresh.
        """
        return self.store.refresh()

    def watch(self) -> Watcher:
        """Start a thread that refreshes whenever a file in the folders changes, until the watcher is stopped.

        Raises:
            MissingExtraError: `watchfiles` is not installed.
        """
        from edge_prompt_runtime.tasks.watch import Watcher  # noqa: PLC0415 - few programs need it

        return Watcher(self.store)

    def release_fold_graph(self) -> None:
        """Release the graph that folds deep prompts; the next deep prompt opens it again.

        This saves memory once all deep prompts are loaded. If memory is too short to open the graph at all, fold the
        prompts beforehand with `edge-prompt fold`.
        """
        self._fold.release()
