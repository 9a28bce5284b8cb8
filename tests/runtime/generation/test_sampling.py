from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from transformers import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from edge_prompt.base.errors import LogitsError
from edge_prompt_runtime.generation.sampling import Sampler, apply_repetition_penalty, candidates, logprobs_of
from edge_prompt_runtime.generation.settings import GenerationSettings

Float32 = NDArray[np.float32]

SAMPLING = GenerationSettings(temperature=1.0)


@st.composite
def rows(draw: st.DrawFn) -> Float32:
    """Logits with few distinct values, so that ties are common, or with any; some, never all, are minus infinity."""
    values = st.sampled_from([-3.0, -1.0, 0.0, 0.5, 2.0]) | st.floats(-30, 30, width=32) | st.just(-np.inf)
    logits = np.array(draw(st.lists(values, min_size=1, max_size=40)), np.float32)
    assume(bool(np.isfinite(logits).any()))
    return logits


def by_transformers(logits: Float32, *processors: Any, said: tuple[int, ...] = (0,)) -> Float32:
    scores = LogitsProcessorList(processors)(torch.tensor([said]), torch.from_numpy(logits.copy())[None])
    return np.asarray(scores[0].numpy(), dtype=np.float32)


def left_of(logits: Float32, settings: GenerationSettings) -> Float32:
    kept = candidates(logits, settings)
    assert (np.diff(kept.tokens) > 0).all()
    left = np.full(len(logits), -np.inf, np.float32)
    left[kept.tokens] = kept.scores
    return left


@given(rows(), st.sampled_from([0.3, 0.7, 1.3, 5.0]), st.integers(1, 45))
def test_temperature_and_top_k_are_transformers_own_to_the_bit(logits: Float32, temperature: float, count: int) -> None:
    ours = left_of(logits, replace(SAMPLING, temperature=temperature, top_k=count))
    theirs = by_transformers(logits, TemperatureLogitsWarper(temperature), TopKLogitsWarper(count))
    np.testing.assert_array_equal(ours, theirs)


@given(rows(), st.floats(0.001, 1))
@example(np.array([1, 1, 0], np.float32), 1.0)
def test_min_p_is_transformers_own(logits: Float32, share: float) -> None:
    shares = np.exp(logits.astype(np.float64) - logits.max())
    near = np.isclose(shares, share, rtol=1e-5) & (logits != logits.max())
    assume(not near.any())  # rounding decides at the boundary
    ours = left_of(logits, replace(SAMPLING, min_p=share))
    np.testing.assert_array_equal(ours, by_transformers(logits, MinPLogitsWarper(share)))


@given(rows(), st.floats(0, 0.999))
@example(np.array([np.finfo(np.float32).smallest_normal * -1, 0], np.float32), 0.25)
def test_top_p_is_transformers_own_up_to_which_of_equals_stay(logits: Float32, share: float) -> None:
    probabilities = np.sort(np.exp(logits.astype(np.float64) - logits.max()))
    assume(not np.isclose(np.cumsum(probabilities) / probabilities.sum(), 1 - share, atol=1e-6).any())
    ours = left_of(logits, replace(SAMPLING, top_p=share))
    theirs = by_transformers(logits, TopPLogitsWarper(share))
    likely = np.exp(np.sort([ours, theirs]).astype(np.float64))  # different logits may have equal probabilities
    np.testing.assert_array_equal(likely[0], likely[1])
    finite = np.isfinite(ours)
    assert not finite.all() or np.array_equal(ours, logits)
    np.testing.assert_array_equal(ours[finite], logits[finite])


def test_between_equals_at_the_edge_of_top_p_the_first_stay() -> None:
    logits = np.array([1, 3, 1, 1, 3], np.float32)
    probabilities = np.exp(logits) / np.exp(logits).sum()
    share = float(probabilities[1] * 2 + probabilities[0] * 1.5)
    assert candidates(logits, replace(SAMPLING, top_p=share)).tokens.tolist() == [0, 1, 2, 4]


@given(rows(), st.sampled_from([0.5, 1.2, 3.0]), st.lists(st.integers(0, 60), min_size=1, max_size=9))
def test_the_repetition_penalty_is_transformers_own(logits: Float32, penalty: float, said: list[int]) -> None:
    mask = np.zeros(len(logits), np.bool_)
    mask[[token for token in said if token < len(logits)]] = True
    ours = apply_repetition_penalty(logits, mask, np.float32(penalty))
    np.testing.assert_array_equal(
        ours, by_transformers(logits, RepetitionPenaltyLogitsProcessor(penalty), said=tuple(said))
    )


@pytest.mark.parametrize("size", [50257, 151936])
def test_all_together_are_transformers_own_on_real_sizes(size: int) -> None:
    random = np.random.default_rng(size)
    said = tuple(random.integers(0, size, 200).tolist())
    mask = np.zeros(size, np.bool_)
    mask[list(said)] = True
    for scale in (0.1, 3.0):
        logits = (random.standard_normal(size) * scale).astype(np.float32)
        for top_k in (None, 50):
            settings = replace(SAMPLING, temperature=0.8, top_k=top_k, top_p=0.9, min_p=0.01)
            chain = [RepetitionPenaltyLogitsProcessor(1.1), TemperatureLogitsWarper(0.8)]
            chain += [] if top_k is None else [TopKLogitsWarper(top_k)]
            theirs = by_transformers(logits, *chain, TopPLogitsWarper(0.9), MinPLogitsWarper(0.01), said=said)
            ours = left_of(apply_repetition_penalty(logits, mask, np.float32(1.1)), settings)
            differ = np.flatnonzero(ours != theirs)
            # transformers sums a hundred thousand probabilities in float32, so a few at the boundary may differ
            assert len(differ) <= np.isfinite(theirs).sum() * 1e-3
            if top_k is not None:
                assert not len(differ)


@given(rows())
def test_greedy_takes_the_first_of_the_most_likely(logits: Float32) -> None:
    assert Sampler(GenerationSettings(), []).choose(logits).token == int(torch.from_numpy(logits).argmax())


@given(rows(), st.integers(0, 2**64 - 1))
def test_only_tokens_of_some_probability_are_drawn_and_a_seed_repeats_them(logits: Float32, seed: int) -> None:
    settings = replace(SAMPLING, temperature=2.0, seed=seed)
    drawn = [[Sampler(settings, [0]).choose(logits).token for _ in range(1)] for _ in range(2)]
    assert drawn[0] == drawn[1]
    sampler = Sampler(settings, [0])
    assert all(np.isfinite(logits[sampler.choose(logits).token]) for _ in range(20))


def test_tokens_are_drawn_by_their_probability() -> None:
    with np.errstate(divide="ignore"):
        logits = np.log(np.array([0.1, 0.0, 0.6, 0.3, 0.0], np.float32))
    sampler = Sampler(replace(SAMPLING, seed=3), [])
    counts = Counter(sampler.choose(logits).token for _ in range(20_000))
    assert counts.keys() == {0, 2, 3}
    for token, share in ((0, 0.1), (2, 0.6), (3, 0.3)):
        assert counts[token] / 20_000 == pytest.approx(share, abs=0.02)


def test_without_a_seed_two_rows_differ() -> None:
    logits = np.zeros(1000, np.float32)
    first, second = (Sampler(SAMPLING, []) for _ in range(2))
    assert [first.choose(logits).token for _ in range(8)] != [second.choose(logits).token for _ in range(8)]


def test_a_token_counts_as_said_once_it_was_chosen() -> None:
    sampler = Sampler(GenerationSettings(repetition_penalty=2.0), np.array([3]))
    logits = np.array([1.0, 1.5, 1.8, 3.0, -1.0], np.float32)
    assert [sampler.choose(logits).token for _ in range(4)] == [2, 1, 3, 3]
    np.testing.assert_array_equal(logits, np.array([1.0, 1.5, 1.8, 3.0, -1.0], np.float32))


@pytest.mark.parametrize("temperature", [1e-300, 1e-40, 1e-9])
def test_the_coldest_temperature_is_greedy_and_overflows_nowhere(temperature: float) -> None:
    logits = np.array([-np.inf, 80.0, 79.0, -500.0], np.float32)
    assert Sampler(replace(SAMPLING, temperature=temperature), []).choose(logits).token == 1


@pytest.mark.parametrize("penalty", [1e-6, 1e6])
def test_a_penalty_that_overflows_is_no_nan(penalty: float) -> None:
    logits = np.array([-3e38, 0.0, -np.inf, 1.0], np.float32)
    left = apply_repetition_penalty(logits, np.array([True, True, True, False]), np.float32(penalty))
    assert not np.isnan(left).any()


@pytest.mark.parametrize("bad", [[np.nan, 1.0], [1.0, np.nan], [np.inf, 0.0], [-np.inf, -np.inf]])
@pytest.mark.parametrize("settings", [GenerationSettings(), SAMPLING, GenerationSettings(repetition_penalty=1.2)])
def test_logits_that_are_no_numbers_are_refused(bad: list[float], settings: GenerationSettings) -> None:
    with pytest.raises(LogitsError, match=r"returned the logit .* for token"):
        Sampler(settings, [0]).choose(np.array(bad, np.float32))


@given(rows(), st.integers(0, 50))
def test_log_probabilities_are_the_models_own(logits: Float32, count: int) -> None:
    wanted = torch.from_numpy(logits).double().log_softmax(0).numpy()
    settings = GenerationSettings(temperature=0.5, top_k=1, repetition_penalty=1.3, top_logprobs=count)
    choice = Sampler(settings, [0]).choose(logits)
    assert choice.logprobs is not None
    assert choice.logprobs.token == choice.token
    assert choice.logprobs.logprob == pytest.approx(wanted[choice.token], abs=1e-5)
    order = sorted(range(len(logits)), key=lambda token: (-logits[token], token))[:count]
    assert [token for token, _logprob in choice.logprobs.top] == order
    np.testing.assert_allclose([logprob for _token, logprob in choice.logprobs.top], wanted[order], atol=1e-5)


def test_log_probabilities_of_many_tokens_lose_nothing() -> None:
    logits = np.zeros(150_000, np.float32)
    assert logprobs_of(logits, 5, 2).logprob == pytest.approx(-np.log(150_000), abs=1e-9)


def test_log_probabilities_are_optional() -> None:
    assert Sampler(GenerationSettings(), []).choose(np.zeros(3, np.float32)).logprobs is None
