"""Measurements of generation as series, ratios and charts."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from benchmarks.lib.publish import Measured
from benchmarks.peers.results import Sample, first_ms, tokens_per_second
from benchmarks.peers.variants import Variant
from edge_prompt_runtime.bench.results import Chart, Ratio, Series


class Figures(NamedTuple):
    """The measurements of a variant.

    Attributes:
        variant: The variant.
        versions: The versions of the libraries that it ran on.
        weight_bytes: The bytes of weights that a token reads.
        load_ms: Time to load, in several processes.
        cold_ms: Time to load and to the first token of the first request, in the same processes.
        samples: One per round.
        peak_bytes: Peak resident memory of the process.
        anonymous_bytes: Resident memory at the end that is not backed by a file.
        bandwidth: Memory bandwidth in bytes per second, in the same rounds.
    """

    variant: Variant
    versions: dict[str, str]
    weight_bytes: int
    load_ms: list[float]
    cold_ms: list[float]
    samples: list[Sample]
    peak_bytes: int
    anonymous_bytes: int
    bandwidth: Sequence[float]

    @property
    def name(self) -> str:
        """The name of the variant."""
        return self.variant.name


class Goal(NamedTuple):
    """The goal of our fastest variant: decoding speed relative to the fastest pipeline that starts with `peer`."""

    peer: str
    ratio: float


DECODE_GOALS = {"fp32": Goal("", 1.0), "int8": Goal("OpenVINO GenAI", 1.05), "int4": Goal("ONNX Runtime GenAI", 1.05)}
"""Goals by weights."""

LIMIT_GOALS = {"fp32": 0.9}
"""The goal of our fastest variant for decoding speed relative to the limit, by weights."""

FIRST_TOKEN_GOAL, PROMPT_GOAL = 1.0, 1.03
BANDWIDTH = "memory: bandwidth"
FIRST, DECODE, LIMIT, LOAD, COLD, PEAK, ANONYMOUS = (
    "first token",
    "decode",
    "limit by memory bandwidth",
    "load",
    "cold",
    "peak",
    "anonymous memory",
)


def measured(figures: Sequence[Figures], left_out: Mapping[str, str]) -> Measured:
    """Return everything as results.

    Args:
        figures: One per variant.
        left_out: The reason for each variant that is missing, by its name.
    """
    rates = {one.variant.weights: one.bandwidth for one in figures}  # measured in the rounds of the same weights
    series = [
        Series(
            f"{BANDWIDTH}, measured with {weights}", "GB/s", tuple(rate / 1e9 for rate in own), higher_is_better=True
        )
        for weights, own in rates.items()
    ]
    for one in figures:
        series += series_of(one)
    versions = {library: version for one in figures for library, version in one.versions.items()}
    note = f"Pipelines ran on {', '.join(f'{library} {found}' for library, found in sorted(versions.items()))}."
    ratios = [*relative_to_limit(figures), *relative_to_peers(figures), *with_prompt(figures)]
    return Measured(tuple(series), tuple(ratios), tuple(charts(figures)), left_out, (note,))


def series_of(one: Figures) -> list[Series]:
    """The series of a variant; its limit is the bandwidth of each round over the bytes that a token reads."""
    line = one.variant.pipeline
    rates = tuple(sample.tokens_per_second for sample in one.samples)
    limits = tuple(rate / one.weight_bytes for rate in one.bandwidth)
    return [
        Series(f"{one.name}: {FIRST}", "ms", tuple(sample.first_ms for sample in one.samples), line),
        Series(f"{one.name}: {DECODE}", "tokens/s", rates, line, higher_is_better=True),
        Series(f"{one.name}: {LIMIT}", "tokens/s", limits, line, higher_is_better=True),
        Series(f"{one.name}: {LOAD}", "ms", tuple(one.load_ms), line),
        Series(f"{one.name}: {COLD}", "ms", tuple(one.cold_ms), line),
        Series(f"{one.name}: {PEAK}", "bytes", (float(one.peak_bytes),), line),
        Series(f"{one.name}: {ANONYMOUS}", "bytes", (float(one.anonymous_bytes),), line),
    ]


def relative_to_limit(figures: Sequence[Figures]) -> list[Ratio]:
    """Decoding of every variant relative to the limit; the goal applies to our fastest variant."""
    quickest = {_quickest(_ours(figures, weights)) for weights in DECODE_GOALS}
    found = []
    for one in figures:
        goal = LIMIT_GOALS.get(one.variant.weights) if one.name in quickest else None
        names = f"{one.name}: {DECODE}", f"{one.name}: {LIMIT}"
        found.append(Ratio(f"{one.name}: {DECODE} over {LIMIT}", *names, goal=goal, at_least=True))
    return found


def relative_to_peers(figures: Sequence[Figures]) -> list[Ratio]:
    """Ours without a prompt relative to the best peer of the same weights, chosen per figure."""
    found = []
    for weights, goal in DECODE_GOALS.items():
        ours, peers = _ours(figures, weights), _peers(figures, weights)
        rivals = [one for one in peers if one.variant.pipeline.startswith(goal.peer)]
        for one in ours:
            if rivals:
                wanted = goal.ratio if one.name == _quickest(ours) else None
                found.append(_over(one, _best_name(rivals, _rate), DECODE, wanted, at_least=True))
            if peers and _best_name(peers, _rate) != (rivals and _best_name(rivals, _rate)):
                found.append(_over(one, _best_name(peers, _rate), DECODE, None, at_least=True))
            if peers:
                first_goal = FIRST_TOKEN_GOAL if one.name == _best_name(ours, _first) else None
                found.append(_over(one, _best_name(peers, _first), FIRST, first_goal))
                found += [_over(one, _best_name(peers, figure), what, None) for what, figure in OTHERS.items()]
    return found


def with_prompt(figures: Sequence[Figures]) -> list[Ratio]:
    """Every variant with a prompt or a LoRA relative to the same pipeline without, if it was measured."""
    plain = {(one.variant.pipeline, one.variant.weights): one for one in figures if not one.variant.adapter}
    found = []
    for one in figures:
        base = plain.get((one.variant.pipeline, one.variant.weights))
        if one.variant.adapter and base is not None:
            goal = PROMPT_GOAL if one.variant.adapter == "prompt" else None
            names = f"{base.name}: {DECODE}", f"{one.name}: {DECODE}"
            found.append(Ratio(f"{one.name}: time per token over no adapter", *names, goal=goal))
            found.append(_over(one, base.name, FIRST, goal))
            found += [_over(one, base.name, what, None) for what in OTHERS]
    return found


def charts(figures: Sequence[Figures]) -> list[Chart]:
    """Decoding, with the limit of the first variant, and the first token, for each kind of weights."""
    found = []
    for weights in DECODE_GOALS:
        own = [one for one in figures if one.variant.weights == weights]
        if own:
            limits = {LIMIT: statistics.median(own[0].bandwidth) / own[0].weight_bytes}
            decoding, first = ([f"{one.name}: {what}" for one in own] for what in (DECODE, FIRST))
            found.append(Chart(f"Decoding speed with {weights} weights", tuple(decoding), limits=limits))
            found.append(Chart(f"Time to the first token with {weights} weights", tuple(first)))
    return found


def _over(one: Figures, base: str, what: str, goal: float | None, *, at_least: bool = False) -> Ratio:
    """A figure of a variant relative to that of `base`, in pairs where it was measured round by round."""
    names = f"{one.name}: {what}", f"{base}: {what}"
    return Ratio(
        f"{one.name}: {what}, over {base}", *names, paired=what in {FIRST, DECODE}, goal=goal, at_least=at_least
    )


def _ours(figures: Sequence[Figures], weights: str) -> list[Figures]:
    return [one for one in _plain(figures, weights) if one.variant.peer is None]


def _peers(figures: Sequence[Figures], weights: str) -> list[Figures]:
    return [one for one in _plain(figures, weights) if one.variant.peer is not None]


def _plain(figures: Sequence[Figures], weights: str) -> list[Figures]:
    return [one for one in figures if one.variant.weights == weights and not one.variant.adapter]


def _best_name(figures: Sequence[Figures], figure: Callable[[Figures], float]) -> str:
    """Return the name of the variant with the lowest figure."""
    return min(figures, key=figure).name


def _quickest(figures: Sequence[Figures]) -> str | None:
    return _best_name(figures, _rate) if figures else None


def _rate(one: Figures) -> float:
    return -tokens_per_second(one.samples)


def _first(one: Figures) -> float:
    return first_ms(one.samples)


OTHERS: Mapping[str, Callable[[Figures], float]] = {
    LOAD: lambda one: statistics.median(one.load_ms),
    COLD: lambda one: statistics.median(one.cold_ms),
    PEAK: lambda one: one.peak_bytes,
}
"""Figures without a goal, by name."""
