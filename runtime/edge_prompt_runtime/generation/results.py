"""Results of generation: pieces while it runs, and the whole text at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length", "cancelled"]
"""Why a row ended: it reached a stop token or stop string, reached the maximum length, or was cancelled."""


@dataclass(frozen=True)
class TokenLogprobs:
    """Log-probabilities at one position, under the model's own distribution: before penalties, temperature and top-k.

    Attributes:
        token: The token that was chosen.
        logprob: Natural logarithm of its probability.
        top: The most likely tokens with their log-probabilities, in descending order; ties are ordered by token id.
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Piece:
    """The result of one step for one row. `str()` gives its text.

    Attributes:
        row: The row of the batch.
        text: Text that this step completed; empty while a character or a possible stop string is incomplete.
        token: The token that was chosen; None if the row was cancelled.
        logprobs: Log-probabilities of that token, if requested.
        finish_reason: Why the row ended with this piece; None while it continues.
    """

    row: int
    text: str
    token: int | None
    logprobs: TokenLogprobs | None = None
    finish_reason: FinishReason | None = None

    def __str__(self) -> str:
        """Return the text."""
        return self.text


@dataclass(frozen=True)
class Generation:
    """A generated text.

    Attributes:
        text: The text, without special tokens and without the stop string.
        tokens: All generated tokens, including the one that ended the row.
        finish_reason: Why the row ended: `stop`, `length` or `cancelled`.
        num_prompt_tokens: Number of tokens in the request, without those of a soft prompt or prefix.
        logprobs: Log-probabilities, one entry per token, if requested.
    """

    text: str
    tokens: tuple[int, ...]
    finish_reason: FinishReason
    num_prompt_tokens: int
    logprobs: tuple[TokenLogprobs, ...] | None = None

    def __str__(self) -> str:
        """Return the text."""
        return self.text
