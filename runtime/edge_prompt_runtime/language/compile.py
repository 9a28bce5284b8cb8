"""Compiling prompts: keys and values of a prompt are made once, by the bundle's own graph, and kept within a budget."""

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
        size_bytes: What it takes in memory beyond the prompt itself.
    """

    past: HeldPast
    size_bytes: int


class CompiledPrompts:
    """The compiled prompts of tasks. Any number of threads may use one.

    A prefix is keys and values already and costs nothing here. A soft prompt is run through the graph once, without a
    token; nothing that comes after it changes its keys and values, so every request of the task starts from them. What
    was used least recently is dropped where the budget ends, and compiled again when it is asked for.

    Args:
        engine: The opened graph.
        cache: `(num_kv_heads, head_dim)` a layer.
        budget_bytes: How much memory the keys and values of soft prompts may take together.
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
    def kept_bytes(self) -> int:
        """What the keys and values take that are kept."""
        with self._lock:
            return sum(compiled.size_bytes for compiled in self._kept.values())

    def of(self, task: Task) -> Compiled:
        """The compiled prompt of `task`, made now if it is not kept."""
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
        """Run the graph on the soft prompt of `task` alone."""
        run = self._engine.begin([self._nothing.past])
        try:
            run.read([np.zeros(0, np.int64)], soft_prompt=task.prompts["soft_prompt"])
            return run.cache()
        finally:
            run.close()

    def keep(self, task: Task, past: Past) -> Compiled:
        """Keep what a soft prompt was compiled to, and drop what was used least recently where the budget ends."""
        compiled = Compiled(HeldPast(past), sum(part.nbytes for part in past))
        with self._lock:
            self._kept[task] = compiled
            self._kept.move_to_end(task)
            total, let_go = sum(kept.size_bytes for kept in self._kept.values()), []
            while total > self._budget_bytes:
                gone, dropped = self._kept.popitem(last=False)
                total -= dropped.size_bytes
                let_go.append(gone)
        for gone in let_go:
            LOG.debug("let go of the keys and values of %s for want of room", gone.described)
        return compiled

    def _of_prefix(self, task: Task) -> Compiled:
        compiled = self._prefixes.get(task)
        if compiled is None:
            past = [part for layer in task.prompts["prefix"] for part in layer]
            compiled = self._prefixes[task] = Compiled(HeldPast(past), 0)
        return compiled

    def forget(self, task: Task) -> None:
        """Drop what is kept of a task that is unloaded or replaced."""
        with self._lock:
            self._kept.pop(task, None)
