"""Which tasks a runtime serves: those that were loaded, and those of folders."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_prompt_runtime.tasks.deep_prompts import Folder
    from edge_prompt_runtime.tasks.registry import LoadedTasks, TaskName
    from edge_prompt_runtime.tasks.store import Refreshed, TaskStore
    from edge_prompt_runtime.tasks.task import Task
    from edge_prompt_runtime.tasks.watch import Watcher


class Tasks:
    """The part of `Runtime` that loads, keeps and lets go of tasks.

    Attributes:
        store: The tasks of the folders.
    """

    store: TaskStore
    _loaded: LoadedTasks
    _fold: Folder

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the loaded tasks, in the order they were loaded, then of those in folders, sorted."""
        return self._loaded.names

    def task(self, name: TaskName) -> Task:
        """The task loaded under `name`; None is the base model.

        Raises:
            UnknownTaskError: Nothing is loaded under that name.
        """
        return self._loaded.find(name)

    def load(self, name: str, path: str | Path, kind: str | None = None) -> None:
        """Load a prompt as task `name`, in place of an older one of that name.

        The first deep prompt opens the graph that folds, which is then kept; see `release_fold_graph`.

        Args:
            name: The name to ask for it by.
            path: The `.npy` file; its card and head lie beside it.
            kind: The kind of a bare `.npy` file whose shape leaves it open.

        Raises:
            EdgePromptError: The prompt is malformed or not for this bundle; an older prompt of that name stays.
        """
        self._loaded.load(name, Path(path), kind)

    def load_all(self, folder: str | Path) -> tuple[str, ...]:
        """Load every prompt in `folder` under the name of its file; if one is refused, none is loaded.

        Returns:
            The names.

        Raises:
            MissingFileError: There is no such folder.
            EdgePromptError: A prompt is malformed or not for this bundle.
        """
        return self._loaded.load_all(Path(folder))

    def unload(self, name: str) -> None:
        """Forget the task `name`; requests under way end on it.

        Raises:
            UnknownTaskError: Nothing is loaded under that name.
        """
        self._loaded.unload(name)

    def pin(self, name: str) -> None:
        """Read the task `name` of the folders now, and keep it whatever the budget, until `unpin`.

        Raises:
            UnknownTaskError: There is none of that name.
            EdgePromptError: The prompt is malformed or not for this bundle.
        """
        self._loaded.pin(name)

    def unpin(self, name: str) -> None:
        """Let the budget decide over the task `name` again."""
        self.store.unpin(name)

    def refresh(self) -> Refreshed:
        """Look at the folders of prompts again, while requests run; each ends on the prompt that it began with.

        A replaced file is taken up from the next request on; if it is refused, the old prompt serves on. New files need
        no refresh.
        """
        return self.store.refresh()

    def watch(self) -> Watcher:
        """Refresh whenever a file in the folders changes, on a thread of its own, until the watcher is stopped.

        Raises:
            MissingExtraError: `watchfiles` is not installed.
        """
        from edge_prompt_runtime.tasks.watch import Watcher  # noqa: PLC0415 - few watch

        return Watcher(self.store)

    def release_fold_graph(self) -> None:
        """Let go of the graph that folds deep prompts, once all are loaded; another deep prompt opens it again.

        For devices short of memory. Where there is none to spare at all, fold ahead with `edge-prompt fold`.
        """
        self._fold.release()
