"""Rows under way on an engine, each from the compiled prompt of its own task."""

from __future__ import annotations

from collections.abc import Sequence

from edge_prompt_runtime.engines.base import CachedRun, Engine, Float32, Int64
from edge_prompt_runtime.language.compile import Compiled


class Rows:
    """Rows in a causal language model; see `edge_prompt_runtime.generation.interfaces.Decoding`.

    Nothing of the engine is held before the first tokens are read.

    Args:
        engine: The opened graph.
        prompts: The compiled prompt of each row.
    """

    def __init__(self, engine: Engine, prompts: Sequence[Compiled]) -> None:
        self._engine = engine
        self._prompts = prompts
        self._run: CachedRun | None = None

    def start(self, rows: Sequence[Int64]) -> list[Float32]:
        """Read the tokens of each row; returns the logits after the last of each, `[vocab_size]`."""
        return [logits[-1] for logits in self.read(rows)]

    def step(self, tokens: Int64) -> list[Float32]:
        """Read one token a row; returns the logits after it, `[vocab_size]` a row."""
        return self.start(list(tokens[:, None]))

    def read(self, rows: Sequence[Int64], *, every: bool = False) -> list[Float32]:
        """Read on; see `CachedRun.read`."""
        if self._run is None:
            self._run = self._engine.begin([prompt.past for prompt in self._prompts])
        return self._run.read(rows, every=every)

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only, which may repeat; none at all lets go of the cache."""
        if self._run is None:
            return
        if rows:
            self._run.keep(rows)
        else:
            self._run.close()
