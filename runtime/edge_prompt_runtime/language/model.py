"""A causal language model on an engine: computes logits from rows of tokens and their tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from edge_prompt.formats.bundle import Bundle
from edge_prompt.formats.manifest import LanguageManifest
from edge_prompt_runtime.engines.base import Arrays, Engine, Float32, Int64
from edge_prompt_runtime.execution.network import Outputs, arrays_of
from edge_prompt_runtime.inputs.requests import Request
from edge_prompt_runtime.language.compile import CompiledPrompts
from edge_prompt_runtime.language.compiled_files import read_compiled
from edge_prompt_runtime.language.rows import Rows
from edge_prompt_runtime.tasks.task import Task


class LanguageModel:
    """A network with a KV cache; see `edge_prompt_runtime.execution.network.Network`.

    Args:
        bundle: The bundle.
        manifest: Its manifest.
        name: Name of the engine.
        engine: The open graph.
        budget_bytes: Memory budget; see `CompiledPrompts`.

    Attributes:
        engine: The open graph.
        compiled: The compiled prompts.
    """

    def __init__(
        self, bundle: Bundle, manifest: LanguageManifest, name: str, engine: Engine, budget_bytes: int
    ) -> None:
        self._bundle = bundle
        self._name = name
        self.engine = engine
        self.compiled = CompiledPrompts(engine, manifest.kv_cache, budget_bytes)

    @property
    def bytes_held(self) -> Mapping[str, Callable[[], int]]:
        """See `Network.bytes_held`."""
        return {"compiled": lambda: self.compiled.bytes_in_memory}

    def prepare(self, task: Task, path: Path) -> None:
        """Load the compiled form of the prompt at `path` from the same folder, or else compile it now.

        Raises:
            CardError: The compiled form belongs to another graph, other weights or another prompt.
        """
        length = task.length("soft_prompt")
        past = read_compiled(path, task.sha256, self._bundle, self._name, length) if length else None
        if past is None:
            self.compiled.of(task)
        else:
            self.compiled.keep(task, past)

    def forget(self, task: Task) -> None:
        """Drop the compiled prompt of a task that is no longer served."""
        self.compiled.forget(task)

    def switch(self, _arrays: Arrays, tasks: Sequence[Task]) -> None:
        """Write the prompts of a request's tasks to the buffers of the engine, unless they are already there."""
        self.engine.begin([self.compiled.of(task).past for task in tasks]).close()

    def begin(self, tasks: Sequence[Task]) -> Rows:
        """Return rows that start from the prompts of `tasks`, one task per row; always `close` them."""
        return Rows(self.engine, [self.compiled.of(task) for task in tasks])

    def groups(self, request: Request, _outputs: Sequence[str]) -> list[tuple[Sequence[int], Outputs]]:
        """Return the logits of all rows, which run at once; see `Network.groups`."""
        rows = range(len(request.tasks))
        arrays = arrays_of(request, rows)
        return [(rows, {"logits": self.logits(arrays["input_ids"], arrays["attention_mask"], request.tasks)})]

    def logits(self, tokens: Int64, mask: Int64, tasks: Sequence[Task]) -> Float32:
        """Return the logits `[batch, sequence, vocab_size]` after every token of `tokens [batch, sequence]`."""
        ids = [row_tokens[row_mask > 0] for row_tokens, row_mask in zip(tokens, mask, strict=True)]
        real = [row for row, row_ids in enumerate(ids) if len(row_ids)]
        rows = self.begin([tasks[row] for row in real])
        try:
            found = rows.forward([ids[row] for row in real], every=True)
        finally:
            rows.close()
        logits = np.zeros((*tokens.shape, found[0].shape[-1]), np.float32)
        for row, row_logits in zip(real, found, strict=True):
            logits[row, mask[row] > 0] = row_logits
        return logits
