"""What generation answers: pieces while it goes on, and the whole at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length", "cancelled"]
"""Why a row ended: a stop token or stop string; as many tokens as were allowed; the caller."""


@dataclass(frozen=True)
class TokenLogprobs:
    """Log-probabilities at one place, of the model's own distribution: before penalties, temperature and cuts.

    Attributes:
        token: The token that was taken.
        logprob: The natural logarithm of its probability.
        top: The most likely tokens with their log-probabilities, the most likely first; the lower id first of equals.
    """

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Piece:
    """What one step gave of one row. As a string it is its text.

    Attributes:
        row: The row of the batch.
        text: Text that has become certain with this step; empty while a character or a stop string is under way.
        token: The token that was taken; None where the row was cancelled.
        logprobs: Of that token, if asked for.
        finish_reason: Why the row ended with this piece; None while it goes on.
    """

    row: int
    text: str
    token: int | None
    logprobs: TokenLogprobs | None = None
    finish_reason: FinishReason | None = None

    def __str__(self) -> str:
        """The text."""
        return self.text


@dataclass(frozen=True)
class Generation:
    """A generated text.

    Attributes:
        text: The text, without special tokens and without the stop string.
        tokens: Every token that was generated, the one that ended the row included.
        finish_reason: Why it ended: `stop`, `length` or `cancelled`.
        num_prompt_tokens: How many tokens the request had, those of a soft prompt or prefix not counted.
        logprobs: One a token, if asked for.
    """

    text: str
    tokens: tuple[int, ...]
    finish_reason: FinishReason
    num_prompt_tokens: int
    logprobs: tuple[TokenLogprobs, ...] | None = None

    def __str__(self) -> str:
        """The text."""
        return self.text
