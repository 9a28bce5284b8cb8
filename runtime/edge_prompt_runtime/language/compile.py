"""Compiles prompts: computes the keys and values of a prompt once with the bundle's graph, and keeps them in memory."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from threading import Lock
from weakref import WeakKeyDictionary

import numpy as np

from edge_prompt_runtime.engines.base import Engine, HeldPast, Past
from edge_prompt_runtime.tasks.task import Task

LOG = logging.getLogger("edge_prompt.tasks")


@dataclass(frozen=True)
class Compiled:
    """A compiled prompt.

    Attributes:
        past: Its keys and values.
        size_bytes: Memory that it uses in addition to the prompt itself.
    """

    past: HeldPast
    size_bytes: int


class CompiledPrompts:
    """The compiled prompts of tasks. Thread-safe.

    A prefix already consists of keys and values and needs no compiling. A soft prompt is run through the graph once,
    without tokens. Later tokens do not change its keys and values, so every request of the task starts from them. When
    the budget is exceeded, the least recently used ones are evicted; they are compiled again when needed.

    Args:
        engine: The open graph.
        cache: `(num_kv_heads, head_dim)` per layer.
        budget_bytes: Memory budget for the keys and values of soft prompts.
    """

    def __init__(self, engine: Engine, cache: Sequence[tuple[int, int]], budget_bytes: int) -> None:
        self._engine = engine
        nothing = [np.zeros((1, heads, 0, size), np.float32) for heads, size in cache for _ in range(2)]
        self._nothing = Compiled(HeldPast(nothing), 0)
        self._budget_bytes = budget_bytes
        self._kept: OrderedDict[Task, Compiled] = OrderedDict()
        self._prefixes: WeakKeyDictionary[Task, Compiled] = WeakKeyDictionary()  # as long as their tasks live
        self._lock = Lock()

    @property
    def bytes_in_memory(self) -> int:
        """Memory that the keys and values in memory use, in bytes."""
        with self._lock:
            return sum(compiled.size_bytes for compiled in self._kept.values())

    def of(self, task: Task) -> Compiled:
        """Return the compiled prompt of `task`, compiled now if it is not in memory."""
        if task.length("prefix"):
            return self._of_prefix(task)
        if not task.length("soft_prompt"):
            return self._nothing
        with self._lock:
            compiled = self._kept.get(task)
            if compiled is not None:
                self._kept.move_to_end(task)
                return compiled
        return self.keep(task, self.compile(task))

    def compile(self, task: Task) -> Past:
        """Run the graph on the soft prompt of `task` alone, and return its keys and values."""
        run = self._engine.begin([self._nothing.past])
        try:
            run.forward([np.zeros(0, np.int64)], soft_prompt=task.prompts["soft_prompt"])
            return run.cache()
        finally:
            run.close()

    def keep(self, task: Task, past: Past) -> Compiled:
        """Keep the keys and values of a soft prompt, and evict the least recently used while the budget is exceeded."""
        compiled = Compiled(HeldPast(past), sum(part.nbytes for part in past))
        with self._lock:
            self._kept[task] = compiled
            self._kept.move_to_end(task)
            total, evicted = sum(kept.size_bytes for kept in self._kept.values()), []
            while total > self._budget_bytes:
                oldest, dropped = self._kept.popitem(last=False)
                total -= dropped.size_bytes
                evicted.append(oldest)
        for oldest in evicted:
            LOG.debug("evicted the keys and values of %s because the memory budget was exceeded", oldest.described)
        return compiled

    def _of_prefix(self, task: Task) -> Compiled:
        compiled = self._prefixes.get(task)
        if compiled is None:
            past = [part for layer in task.prompts["prefix"] for part in layer]
            compiled = self._prefixes[task] = Compiled(HeldPast(past), 0)
        return compiled

    def forget(self, task: Task) -> None:
        """Drop the keys and values of a task that is unloaded or replaced."""
        with self._lock:
            self._kept.pop(task, None)
