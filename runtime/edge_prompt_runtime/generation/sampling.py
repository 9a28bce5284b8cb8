"""From the logits of one row to its next token, in the order and with the meaning that transformers gives it."""

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
    """The next token, and its log-probabilities if they were asked for."""

    token: int
    logprobs: TokenLogprobs | None


class Candidates(NamedTuple):
    """The tokens that may be drawn: `tokens [n]` in rising order, and `scores [n]` float32, their processed logits."""

    tokens: NDArray[np.int64]
    scores: Float32


class Sampler:
    """Chooses the tokens of one row.

    Args:
        settings: How.
        prompt: The token ids of the request, which a repetition penalty counts as said already.
    """

    def __init__(self, settings: GenerationSettings, prompt: Iterable[int]) -> None:
        self._settings = settings
        self._random = None if settings.greedy else np.random.default_rng(settings.seed)
        self._penalty = np.float32(settings.repetition_penalty or 1.0)
        self._prompt = prompt
        self._said: NDArray[np.bool_] | None = None

    def choose(self, logits: Float32) -> Choice:
        """The next token, which counts as said from now on.

        Args:
            logits: `[vocab]` float32, left as they are.

        Raises:
            LogitsError: There is NaN or infinity among them, or nothing else than minus infinity.
        """
        processed = self._penalised(logits)
        best = int(processed.argmax())  # of a NaN, if there is one
        if not isfinite(processed[best]):
            raise LogitsError(
                found=f"the logit {logits[best]} of token {best}",
                wanted="finite logits",
                remedy="run the network in f32, or check the prompt and the weights",
            )
        token = best if self._random is None else _drawn(candidates(processed, self._settings), self._random)
        if self._said is not None:
            self._said[token] = True
        asked = self._settings.top_logprobs
        return Choice(token, None if asked is None else logprobs_of(logits, token, asked))

    def _penalised(self, logits: Float32) -> Float32:
        if self._penalty == 1.0:
            return logits
        if self._said is None:
            self._said = np.zeros(len(logits), np.bool_)
            prompt = np.fromiter(self._prompt, np.int64)
            self._said[prompt[prompt < len(logits)]] = True
        return penalised(logits, self._said, self._penalty)


def penalised(logits: Float32, said: NDArray[np.bool_], penalty: np.float32) -> Float32:
    """A copy of `logits [vocab]` where tokens that are `said [vocab]` are less likely, for a penalty above 1."""
    changed = logits.copy()
    tokens = np.flatnonzero(said)
    scores = logits[tokens]
    with np.errstate(over="ignore", invalid="ignore"):
        changed[tokens] = np.where(scores < 0, scores * penalty, scores / penalty)
    return changed


def candidates(logits: Float32, settings: GenerationSettings) -> Candidates:
    """The tokens that temperature, top-k, top-p and min-p leave of `logits [vocab]`, whose greatest is finite."""
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
    """The log-probabilities of `token` and of the `count` most likely tokens, by `logits [vocab]`."""
    best = logits.max()
    shift = float(best) + float(np.log(np.exp(logits - best).sum(dtype=np.float64)))
    count = min(count, len(logits))
    top: NDArray[np.int64] = np.empty(0, np.int64)
    if count:
        least = np.partition(logits, -count)[-count]
        top = np.flatnonzero(logits >= least)  # in rising order, so the lower id comes first of equals
        top = top[np.argsort(-logits[top], kind="stable")[:count]]
    return TokenLogprobs(token, float(logits[token]) - shift, tuple((int(t), float(logits[t]) - shift) for t in top))


def _tempered(logits: Float32, temperature: float) -> Float32:
    if temperature == 1.0:
        return logits
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        scores = logits / np.float32(temperature)
        if not np.isfinite(scores.max()):  # so cold that quotients overflow: only differences count
            scores = ((logits.astype(np.float64) - float(logits.max())) / temperature).astype(np.float32)
    return scores


def _top_k(scores: Float32, count: float) -> NDArray[np.int64]:
    """Those not below the `count`-th, so ties with it stay."""
    count = min(int(count), len(scores))
    return np.flatnonzero(scores >= np.partition(scores, -count)[-count])


def _top_p(scores: Float32, share: float) -> NDArray[np.int64]:
    """The fewest most likely that have `share` of the probability; of ties at the edge, the first.

    Tokens of at most (1 - share) / n cannot be among them: all of those together have no more than 1 - share. Only the
    rest is sorted.
    """
    probabilities = _probabilities(scores)
    floor = (1.0 - share) / len(scores)
    able = np.flatnonzero(probabilities > floor) if floor < probabilities.max() else np.arange(len(scores))
    order = able[np.argsort(-probabilities[able], kind="stable")]
    before = np.cumsum(probabilities[order]) - probabilities[order]
    count = max(1, int(np.searchsorted(before, share, side="left")))
    return np.sort(order[:count])


def _min_p(scores: Float32, share: float) -> NDArray[np.int64]:
    """Those of at least `share` of the greatest probability."""
    return np.flatnonzero(scores >= scores.max() + np.float32(np.log(share)))


def _probabilities(scores: Float32) -> NDArray[np.float64]:
    exponentials = np.exp(scores.astype(np.float64) - float(scores.max()))
    return np.asarray(exponentials / exponentials.sum())


def _drawn(kept: Candidates, random: np.random.Generator) -> int:
    """A token by its probability; always one number of `random`, however many tokens there are."""
    sums = np.cumsum(_probabilities(kept.scores))
    place = int(np.searchsorted(sums, random.random() * sums[-1], side="right"))
    last = int(np.searchsorted(sums, sums[-1], side="left"))  # the last of any probability, if rounding went past it
    return int(kept.tokens[min(place, last)])
