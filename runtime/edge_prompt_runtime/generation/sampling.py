"""Chooses the next token of one row from its logits, with the same steps in the same order as transformers.

Written here because transformers' own steps need torch, and no library has them on numpy alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import isfinite
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_prompt.base.errors import LogitsError
from edge_prompt_runtime.generation.results import TokenLogprobs
from edge_prompt_runtime.generation.settings import GenerationSettings

Float32 = NDArray[np.float32]


class Choice(NamedTuple):
    """The next token, and its log-probabilities if requested."""

    token: int
    logprobs: TokenLogprobs | None


class Candidates(NamedTuple):
    """The tokens that may be sampled: ascending `tokens [n]`, and their processed logits `scores [n]` float32."""

    tokens: NDArray[np.int64]
    scores: Float32


class Sampler:
    """Chooses the tokens of one row.

    Args:
        settings: The generation settings.
        prompt: The token ids of the request, to which a repetition penalty applies too.
    """

    def __init__(self, settings: GenerationSettings, prompt: Iterable[int]) -> None:
        self._settings = settings
        self._random = None if settings.greedy else np.random.default_rng(settings.seed)
        self._penalty = np.float32(settings.repetition_penalty or 1.0)
        self._prompt = prompt
        self._seen: NDArray[np.bool_] | None = None

    def choose(self, logits: Float32) -> Choice:
        """Choose the next token; a repetition penalty applies to it from now on.

        Args:
            logits: `[vocab]` float32; they are not modified.

        Raises:
            LogitsError: The logits contain NaN or infinity, or all of them are minus infinity.
        """
        processed = self._penalised(logits)
        best = int(processed.argmax())  # the index of a NaN, if there is one
        if not isfinite(processed[best]):
            raise LogitsError(
                found=f"the network returned the logit {logits[best]} for token {best}",
                wanted="finite logits",
                remedy="run the network in f32, or check the prompt and the weights",
            )
        token = best if self._random is None else _drawn(candidates(processed, self._settings), self._random)
        if self._seen is not None:
            self._seen[token] = True
        asked = self._settings.top_logprobs
        return Choice(token, None if asked is None else logprobs_of(logits, token, asked))

    def _penalised(self, logits: Float32) -> Float32:
        if self._penalty == 1.0:
            return logits
        if self._seen is None:
            self._seen = np.zeros(len(logits), np.bool_)
            prompt = np.fromiter(self._prompt, np.int64)
            self._seen[prompt[prompt < len(logits)]] = True
        return apply_repetition_penalty(logits, self._seen, self._penalty)


def apply_repetition_penalty(logits: Float32, seen: NDArray[np.bool_], penalty: np.float32) -> Float32:
    """Return a copy of `logits [vocab]` with the repetition penalty applied to the tokens marked in `seen [vocab]`."""
    changed = logits.copy()
    tokens = np.flatnonzero(seen)
    scores = logits[tokens]
    with np.errstate(over="ignore", invalid="ignore"):
        changed[tokens] = np.where(scores < 0, scores * penalty, scores / penalty)
    return changed


def candidates(logits: Float32, settings: GenerationSettings) -> Candidates:
    """Apply temperature, top-k, top-p and min-p to `logits [vocab]`, whose maximum is finite."""
    scores = _tempered(logits, settings.temperature)
    kept = Candidates(np.arange(len(scores)), scores)
    for cut, value, neutral in (
        (_top_k, settings.top_k, 0),
        (_top_p, settings.top_p, 1.0),
        (_min_p, settings.min_p, 0.0),
    ):
        if value is not None and value != neutral:
            indices = cut(kept.scores, value)
            kept = Candidates(kept.tokens[indices], kept.scores[indices])
    return kept


def logprobs_of(logits: Float32, token: int, count: int) -> TokenLogprobs:
    """Return the log-probabilities of `token` and of the `count` most likely tokens, from `logits [vocab]`."""
    best = logits.max()
    shift = float(best) + float(np.log(np.exp(logits - best).sum(dtype=np.float64)))
    count = min(count, len(logits))
    top: NDArray[np.int64] = np.empty(0, np.int64)
    if count:
        least = np.partition(logits, -count)[-count]
        top = np.flatnonzero(logits >= least)  # ascending, so that ties are ordered by token id
        top = top[np.argsort(-logits[top], kind="stable")[:count]]
    return TokenLogprobs(token, float(logits[token]) - shift, tuple((int(t), float(logits[t]) - shift) for t in top))


def _tempered(logits: Float32, temperature: float) -> Float32:
    if temperature == 1.0:
        return logits
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        scores = logits / np.float32(temperature)
        if not np.isfinite(scores.max()):  # the quotients overflow: use differences to the maximum
            scores = ((logits.astype(np.float64) - float(logits.max())) / temperature).astype(np.float32)
    return scores


def _top_k(scores: Float32, count: float) -> NDArray[np.int64]:
    """Indices of the scores that are not below the `count`-th highest, including ties with it."""
    count = min(int(count), len(scores))
    return np.flatnonzero(scores >= np.partition(scores, -count)[-count])


def _top_p(scores: Float32, share: float) -> NDArray[np.int64]:
    """Indices of the smallest set of most likely tokens with total probability `share`; ties are taken in order.

    Tokens with a probability of at most (1 - share) / n cannot be in the set, because together they have at most
    1 - share. Only the other tokens are sorted.
    """
    probabilities = _probabilities(scores)
    floor = (1.0 - share) / len(scores)
    able = np.flatnonzero(probabilities > floor) if floor < probabilities.max() else np.arange(len(scores))
    order = able[np.argsort(-probabilities[able], kind="stable")]
    before = np.cumsum(probabilities[order]) - probabilities[order]
    count = max(1, int(np.searchsorted(before, share, side="left")))
    return np.sort(order[:count])


def _min_p(scores: Float32, share: float) -> NDArray[np.int64]:
    """Indices of the tokens with at least `share` of the highest probability."""
    return np.flatnonzero(scores >= scores.max() + np.float32(np.log(share)))


def _probabilities(scores: Float32) -> NDArray[np.float64]:
    exponentials = np.exp(scores.astype(np.float64) - float(scores.max()))
    return np.asarray(exponentials / exponentials.sum())


def _drawn(kept: Candidates, random: np.random.Generator) -> int:
    """Sample a token; this always consumes exactly one number of `random`."""
    sums = np.cumsum(_probabilities(kept.scores))
    place = int(np.searchsorted(sums, random.random() * sums[-1], side="right"))
    last = int(np.searchsorted(sums, sums[-1], side="left"))  # the last possible token, in case of rounding
    return int(kept.tokens[min(place, last)])
