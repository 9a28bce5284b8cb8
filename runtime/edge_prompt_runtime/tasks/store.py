"""A store of tasks: prompts in folders, read on first use and kept in memory within a budget."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from edge_prompt.base.errors import EdgePromptError
from edge_prompt_runtime.metrics.recorder import Recorder
from edge_prompt_runtime.tasks.folders import FoundPrompt, PromptFolders
from edge_prompt_runtime.tasks.task import Task


@dataclass(frozen=True)
class Refreshed:
    """The result of a refresh.

    Attributes:
        replaced: Names of tasks whose files were replaced; new requests use the new files.
        dropped: Names of tasks whose files are gone.
        refused: Names of tasks whose new files were refused, with the reason; the old prompts stay in use.
    """

    replaced: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


class _Kept(NamedTuple):
    task: Task
    found: FoundPrompt


class TaskStore:
    """Tasks by name, each read on first use. Thread-safe.

    When the budget is exceeded, the least recently used tasks are evicted; they are read again when needed. Pinned
    tasks stay. A task is never changed, only replaced: a request finishes with the task that it began with.

    Args:
        folders: The folders with the prompts.
        budget_bytes: Memory budget for prompts and heads, without those that are pinned.
        read: Reads a prompt as a task of the given name and prepares it.
        forget: Called with a task that is evicted, replaced or dropped.
        recorder: Records replacements and evictions.
    """

    def __init__(
        self,
        folders: PromptFolders,
        budget_bytes: int,
        read: Callable[[str, Path], Task],
        forget: Callable[[Task], None],
        recorder: Recorder,
    ) -> None:
        self.folders = folders
        self._budget_bytes = budget_bytes
        self._read = read
        self._forget = forget
        self._recorder = recorder
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._bytes_in_memory = 0
        self._pinned: set[str] = set()
        self._reading: dict[str, Lock] = {}
        self._lock = Lock()

    @property
    def in_memory(self) -> dict[str, Task]:
        """The tasks in memory, the least recently used first."""
        with self._lock:
            return {name: kept.task for name, kept in self._kept.items()}

    @property
    def bytes_in_memory(self) -> int:
        """Memory that the prompts and heads of these tasks use, in bytes."""
        return self._bytes_in_memory

    def find(self, name: str) -> Task | None:
        """Return the task called `name`, read now if it is not in memory; None if there is no such prompt.

        Raises:
            EdgePromptError: The prompt is malformed or does not fit this bundle.
        """
        with self._lock:
            kept = self._kept.get(name)
            if kept is not None:
                self._kept.move_to_end(name)
                return kept.task
            reading = self._reading.setdefault(name, Lock())
        with reading:  # concurrent requests for the same task read it once
            try:
                with self._lock:
                    kept = self._kept.get(name)
                if kept is None:
                    kept = self._of(name)
                    if kept is not None:
                        self._keep(name, kept)
            finally:
                with self._lock:
                    self._reading.pop(name, None)
        return None if kept is None else kept.task

    def pin(self, name: str) -> Task | None:
        """Read the task called `name` and exempt it from eviction; see `find`."""
        with self._lock:
            self._pinned.add(name)
        try:
            task = self.find(name)
        except EdgePromptError:
            self.unpin(name)
            raise
        if task is None:
            self.unpin(name)
        return task

    def unpin(self, name: str) -> None:
        """Allow a task to be evicted again."""
        with self._lock:
            self._pinned.discard(name)
        self._make_room()

    def refresh(self) -> Refreshed:
        """Check the files of the tasks in memory for changes; other tasks are read from their files in any case."""
        replaced, dropped, refused = [], [], {}
        with self._lock:
            looked_at = list(self._kept.items())
        for name, old in looked_at:
            try:
                found = self.folders.find(name)
                if found is None:
                    if self._drop(name, old):
                        dropped.append(name)
                elif found != old.found:
                    new = self._of(name)
                    if new is not None and self._replace(name, old, new):
                        replaced.append(name)
            except EdgePromptError as error:
                refused[name] = str(error)
        return Refreshed(tuple(replaced), tuple(dropped), refused)

    def _of(self, name: str) -> _Kept | None:
        """Read the task from its current files."""
        found = self.folders.find(name)  # before reading: the next refresh then notices later changes
        return None if found is None else _Kept(self._read(name, found.path), found)

    def _keep(self, name: str, kept: _Kept) -> None:
        with self._lock:
            self._kept[name] = kept
            self._bytes_in_memory += kept.task.size_bytes
        self._make_room()

    def _replace(self, name: str, old: _Kept, new: _Kept) -> bool:
        """Serve `new` from now on, if `old` is still being served."""
        with self._lock:
            current = self._kept.get(name) is old
            if current:
                self._kept[name] = new
                self._bytes_in_memory += new.task.size_bytes - old.task.size_bytes
        self._forget(old.task if current else new.task)
        if current:
            self._recorder.replaced(name)
        self._make_room()
        return current

    def _drop(self, name: str, old: _Kept) -> bool:
        """Stop serving `old`, if it is still being served."""
        with self._lock:
            current = self._kept.get(name) is old
            if current:
                del self._kept[name]
                self._bytes_in_memory -= old.task.size_bytes
        if current:
            self._forget(old.task)
            self._recorder.unloaded(name)
        return current

    def _make_room(self) -> None:
        """Evict the least recently used tasks while the budget is exceeded, but never the most recent one."""
        gone = []
        with self._lock:
            excess_bytes = self._bytes_in_memory - self._budget_bytes
            if excess_bytes > 0 and self._pinned:
                excess_bytes -= sum(self._kept[name].task.size_bytes for name in self._pinned if name in self._kept)
            newest = next(reversed(self._kept), None)
            for name, kept in self._kept.items():
                if excess_bytes <= 0 or name == newest:
                    break
                if name not in self._pinned:
                    gone.append(name)
                    excess_bytes -= kept.task.size_bytes
            tasks = [self._kept.pop(name).task for name in gone]
            self._bytes_in_memory -= sum(task.size_bytes for task in tasks)
        for task in tasks:
            self._forget(task)
            self._recorder.evicted(task.name)
