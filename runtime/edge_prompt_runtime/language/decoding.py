"""Rows under way on an engine, each from the compiled prompt of its own task."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_prompt_runtime.engines import CachedRun, Engine, Held
from edge_prompt_runtime.language.compiling import Compiled
from edge_prompt_runtime.language.layout import (
    Float32,
    Int64,
    filled_mask,
    past_together,
    positions_of,
    tokens_together,
)


class Rows:
    """A batch of rows in a causal language model; see `edge_prompt_runtime.generation.decoding.Decoding`.

    Nothing of the engine is held before the first tokens are read.

    Args:
        engine: The opened graph.
        prompts: The compiled prompt of each row.
        no_soft_prompt: `[1, 0, hidden_size]`: prompts are in the cache already.
    """

    def __init__(self, engine: Engine, prompts: Sequence[Compiled], no_soft_prompt: Float32) -> None:
        self._engine = engine
        self._prompts = prompts
        self._mask = filled_mask([prompt.past[0].shape[2] for prompt in prompts])
        self._no_soft_prompt = no_soft_prompt
        self._rows = np.arange(len(prompts), dtype=np.int32)
        self._run: CachedRun | None = None

    def start(self, rows: Sequence[Int64]) -> Float32:
        """Read the tokens of each row; returns the logits after the last of each, `[batch, vocab_size]`."""
        tokens, mask = tokens_together(rows)
        return self.read(tokens, mask, last=1)[:, -1]

    def step(self, tokens: Int64) -> Float32:
        """Read one token a row; returns the logits after them, `[batch, vocab_size]`."""
        return self.read(tokens[:, None], np.ones((len(tokens), 1), np.int64), last=1)[:, -1]

    def read(self, tokens: Int64, mask: Int64, last: int) -> Float32:
        """Read on.

        Args:
            tokens: `[batch, sequence]`.
            mask: `[batch, sequence]`, 1 where a row has a token.
            last: How many of the last places to give logits of.

        Returns:
            `[batch, last, vocab_size]`.
        """
        if self._run is None:
            self._run = self._engine.begin(self._held())
        self._mask = np.concatenate([self._mask[self._rows], mask], 1)
        sequence = tokens.shape[1]
        feeds = {
            "input_ids": tokens,
            "attention_mask": self._mask,
            "position_ids": positions_of(self._mask, sequence),
            "logits_to_keep": np.arange(sequence - last, sequence),
            "soft_prompt": self._no_soft_prompt,
        }
        logits = self._run.run(feeds, self._rows)
        self._rows = np.arange(len(tokens), dtype=np.int32)
        return logits

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only, which may repeat; none at all lets go of the cache."""
        if rows:
            self._rows = self._rows[list(rows)]
        elif self._run is not None:
            self._run.close()

    def _held(self) -> Held:
        """The prompts of all rows; that of one row as it was held when it was compiled, so that nothing is copied."""
        if len(self._prompts) == 1:
            return self._prompts[0].held
        return self._engine.hold(past_together([prompt.past for prompt in self._prompts]))
