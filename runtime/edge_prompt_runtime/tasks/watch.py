"""Watches prompt folders and refreshes the store whenever a file changes. Needs the extra `watch`."""

from __future__ import annotations

import logging
from threading import Event, Thread
from types import TracebackType
from typing import Self

from edge_prompt.base.extras import require_extra
from edge_prompt_runtime.tasks.store import TaskStore

LOG = logging.getLogger("edge_prompt")

QUIET_MS = 100
"""A prompt consists of up to three files, so a refresh waits until nothing has changed for this time."""


class Watcher:
    """Refreshes a store in a thread until it is stopped; also a context manager.

    Args:
        store: The store to refresh.

    Raises:
        MissingExtraError: `watchfiles` is not installed.
    """

    def __init__(self, store: TaskStore) -> None:
        require_extra("watch", "watching folders of prompts")
        self._store = store
        self._stopped = Event()
        self._thread = Thread(target=self._watch, name="edge-prompt watcher", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop watching; returns after a running refresh has finished."""
        self._stopped.set()
        self._thread.join()

    def __enter__(self) -> Self:
        """Return the watcher itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop watching."""
        self.stop()

    def _watch(self) -> None:
        from watchfiles import watch  # noqa: PLC0415 - an extra

        changes = watch(
            *self._store.folders.folders,
            stop_event=self._stopped,
            debounce=10 * QUIET_MS,
            step=QUIET_MS,
            recursive=False,
            raise_interrupt=False,
        )
        for _ in changes:
            try:
                self._store.refresh()
            except Exception:  # keep watching, whatever went wrong
                LOG.exception("the prompt folders could not be refreshed")
