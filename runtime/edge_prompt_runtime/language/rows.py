"""Rows in progress on an engine, each starting from the compiled prompt of its own task."""

from __future__ import annotations

from collections.abc import Sequence

from edge_prompt_runtime.engines.base import CachedRun, Engine, Float32, Int64
from edge_prompt_runtime.language.compile import Compiled


class Rows:
    """Rows in a causal language model; see `edge_prompt_runtime.generation.interfaces.Decoding`.

    The engine is not used before the first tokens are read.

    Args:
        engine: The open graph.
        prompts: The compiled prompt of each row.
    """

    def __init__(self, engine: Engine, prompts: Sequence[Compiled]) -> None:
        self._engine = engine
        self._prompts = prompts
        self._run: CachedRun | None = None

    def start(self, rows: Sequence[Int64]) -> list[Float32]:
        """Read the tokens of each row and return the logits after the last one, `[vocab_size]` per row."""
        return [logits[-1] for logits in self.forward(rows)]

    def step(self, tokens: Int64) -> list[Float32]:
        """Read one token per row and return the logits after it, `[vocab_size]` per row."""
        return self.start(list(tokens[:, None]))

    def forward(self, rows: Sequence[Int64], *, every: bool = False) -> list[Float32]:
        """Read the next tokens of each row; see `CachedRun.forward`."""
        if self._run is None:
            self._run = self._engine.begin([prompt.past for prompt in self._prompts])
        return self._run.forward(rows, every=every)

    def keep(self, rows: Sequence[int]) -> None:
        """Continue with these rows only, which may repeat."""
        if self._run is not None:
            self._run.keep(rows)

    def close(self) -> None:
        """Release the cache. Closing rows that were never read does nothing."""
        if self._run is not None:
            self._run.close()
