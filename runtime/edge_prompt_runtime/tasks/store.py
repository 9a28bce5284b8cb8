"""A store of tasks: the prompts of folders, read when first asked for and kept within a budget of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from edge_prompt.base.errors import EdgePromptError
from edge_prompt_runtime.metrics.recorder import Recorder
from edge_prompt_runtime.tasks.folders import Found, PromptFolders
from edge_prompt_runtime.tasks.task import Task


@dataclass(frozen=True)
class Refreshed:
    """What a refresh found.

    Attributes:
        replaced: Names whose files were replaced: requests from now on are answered by the new ones.
        dropped: Names whose files are gone.
        refused: Names whose new files are refused, with the reason; the old prompts serve on.
    """

    replaced: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


class _Kept(NamedTuple):
    task: Task
    found: Found


class TaskStore:
    """Tasks by name, each read when it is first asked for. Any number of threads may use one.

    What was used least recently is let go where the budget ends, and read again when it is asked for; what is pinned
    stays. A task is never changed, only replaced: a request ends on the task that it began with.

    Args:
        folders: Where the prompts lie.
        budget_bytes: How much memory prompts and heads may take together, beside those that are pinned.
        read: Reads a prompt as a task of that name, and makes it ready.
        forget: Called with a task that is let go.
        recorder: Told what is replaced and let go.
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
        self._kept_bytes = 0
        self._pinned: set[str] = set()
        self._reading: dict[str, Lock] = {}
        self._lock = Lock()

    @property
    def kept(self) -> dict[str, Task]:
        """What is in memory, the least recently used first."""
        with self._lock:
            return {name: kept.task for name, kept in self._kept.items()}

    @property
    def kept_bytes(self) -> int:
        """What prompts and heads in memory take."""
        return self._kept_bytes

    def find(self, name: str) -> Task | None:
        """The task of that name, read now if it is not kept; None if there is no such prompt.

        Raises:
            EdgePromptError: The prompt is malformed or not for this bundle.
        """
        with self._lock:
            kept = self._kept.get(name)
            if kept is not None:
                self._kept.move_to_end(name)
                return kept.task
            reading = self._reading.setdefault(name, Lock())
        with reading:  # threads that ask for it at once read it once
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
        """Read the task of that name, and keep it whatever the budget; see `find`."""
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
        """Let the budget decide over a task again."""
        with self._lock:
            self._pinned.discard(name)
        self._make_room()

    def refresh(self) -> Refreshed:
        """Look at the files of what is in memory again; what is not is read anew in any case."""
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
        """The task as its files are now."""
        found = self.folders.find(name)  # before it is read: what changes meanwhile is seen by the next refresh
        return None if found is None else _Kept(self._read(name, found.path), found)

    def _keep(self, name: str, kept: _Kept) -> None:
        with self._lock:
            self._kept[name] = kept
            self._kept_bytes += kept.task.size_bytes
        self._make_room()

    def _replace(self, name: str, old: _Kept, new: _Kept) -> bool:
        """Serve `new` from now on, if `old` was what was served."""
        with self._lock:
            current = self._kept.get(name) is old
            if current:
                self._kept[name] = new
                self._kept_bytes += new.task.size_bytes - old.task.size_bytes
        self._forget(old.task if current else new.task)
        if current:
            self._recorder.replaced(name)
        self._make_room()
        return current

    def _drop(self, name: str, old: _Kept) -> bool:
        """Serve `old` no longer, if it is what is served."""
        with self._lock:
            current = self._kept.get(name) is old
            if current:
                del self._kept[name]
                self._kept_bytes -= old.task.size_bytes
        if current:
            self._forget(old.task)
            self._recorder.unloaded(name)
        return current

    def _make_room(self) -> None:
        """Let go of what was used least recently where the budget ends, but never of the last one used."""
        gone = []
        with self._lock:
            excess_bytes = self._kept_bytes - self._budget_bytes
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
            self._kept_bytes -= sum(task.size_bytes for task in tasks)
        for task in tasks:
            self._forget(task)
            self._recorder.evicted(task.name)
