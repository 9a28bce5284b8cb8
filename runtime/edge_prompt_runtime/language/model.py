"""A causal language model on an engine: computes logits from rows of tokens and their tasks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_prompt.formats.manifest import LanguageManifest
from edge_prompt_runtime.engines.base import Engine, Float32, Int64
from edge_prompt_runtime.inputs.requests import Request
from edge_prompt_runtime.language.compile import CompiledPrompts
from edge_prompt_runtime.language.rows import Rows
from edge_prompt_runtime.tasks.task import Task


class LanguageModel:
    """A network with a KV cache; see `edge_prompt_runtime.execution.network.Network`.

    Args:
        manifest: The bundle's manifest.
        engine: The open graph.
        budget_bytes: Memory budget; see `CompiledPrompts`.

    Attributes:
        compiled: The compiled prompts.
    """

    def __init__(self, manifest: LanguageManifest, engine: Engine, budget_bytes: int) -> None:
        self._engine = engine
        self.compiled = CompiledPrompts(engine, manifest.kv_cache, budget_bytes)

    def begin(self, tasks: Sequence[Task]) -> Rows:
        """Return rows that start from the prompts of `tasks`, one task per row; release them with `keep([])`."""
        return Rows(self._engine, [self.compiled.of(task) for task in tasks])

    def groups(
        self, request: Request, tasks: Sequence[Task], _outputs: Sequence[str]
    ) -> Iterator[tuple[list[int], dict[str, NDArray[Any]]]]:
        """Yield the logits of all rows at once; see `edge_prompt_runtime.execution.network.Network`."""
        arrays = request.of_rows(range(request.rows))
        logits = self.logits(arrays["input_ids"], arrays["attention_mask"], tasks)
        yield list(range(request.rows)), {"logits": logits}

    def logits(self, tokens: Int64, mask: Int64, tasks: Sequence[Task]) -> Float32:
        """Return the logits `[batch, sequence, vocab_size]` after every token of `tokens [batch, sequence]`."""
        ids = [row_tokens[row_mask > 0] for row_tokens, row_mask in zip(tokens, mask, strict=True)]
        real = [row for row, row_ids in enumerate(ids) if len(row_ids)]
        rows = self.begin([tasks[row] for row in real])
        try:
            found = rows.read([ids[row] for row in real], every=True)
        finally:
            rows.keep([])
        logits = np.zeros((*tokens.shape, found[0].shape[-1]), np.float32)
        for row, row_logits in zip(real, found, strict=True):
            logits[row, mask[row] > 0] = row_logits
        return logits
