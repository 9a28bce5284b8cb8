"""Watching folders of prompts: a refresh whenever a file in them changes. Needs the extra `watch`."""

from __future__ import annotations

import logging
from threading import Event, Thread
from types import TracebackType
from typing import Self

from edge_prompt.base.extras import require_extra
from edge_prompt_runtime.tasks.store import TaskStore

LOG = logging.getLogger("edge_prompt")

QUIET_MS = 100
"""A prompt is up to three files: a refresh waits until nothing changed for so long."""


class Watcher:
    """Refreshes a store on a thread of its own, until it is stopped; a context manager, too.

    Args:
        store: The store.

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
        """Stop watching; returns once a refresh under way is over."""
        self._stopped.set()
        self._thread.join()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
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
            except Exception:  # whatever it is, what comes next is watched on
                LOG.exception("folders of prompts cannot be refreshed")
