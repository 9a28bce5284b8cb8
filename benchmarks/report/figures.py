"""The figures that matter, for the first screen: which ratios of which benchmarks they are. Edit the table.

A pattern is of shell style and looked for in the names of a benchmark's ratios without regard to case; all that match
are shown, one a line, up to `MOST_LINES`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from edge_prompt_runtime.bench.results import Ratio, Results
from edge_prompt_runtime.bench.tables import between, number

MOST_LINES = 2
"""Ratios of one benchmark that a figure shows on the first screen; the benchmark's section has all."""


class Headline(NamedTuple):
    """A figure that matters.

    Attributes:
        title: What it is about, in a few words.
        says: What the ratio means, a sentence.
        wanted: By benchmark, the patterns of the names of its ratios; the first pattern that any ratio matches counts.
    """

    title: str
    says: str
    wanted: Mapping[str, tuple[str, ...]]


HEADLINES = (
    Headline(
        "A warm swap beside PEFT",
        "How many times quicker than PEFT's `set_adapter` another task is ready.",
        {"swap": ("peft over *warm swap*", "peft*warm*", "*set_adapter*")},
    ),
    Headline(
        "A warm swap beside another session",
        "How many times quicker than opening another network.",
        {"swap": ("another session over *warm swap*", "another session*", "*load another network*")},
    ),
    Headline(
        "A thousand tasks in memory",
        "The memory of a thousand tasks over that of one and the tasks' own bytes.",
        {"many_tasks": ("*thousand tasks*", "*1,000 tasks*memory*", "*memory*")},
    ),
    Headline(
        "Fifty folded deep tokens",
        "The time of an image under a folded deep prompt over that without a prompt.",
        {"prompt_cost": ("dinov2*50*folded*", "dinov2*folded*50*", "*50 *folded*", "*folded*50*")},
    ),
    Headline(
        "Throughput beside its limits",
        "A batch of eight tasks over one of a single task; tokens a second over what the bandwidth of memory allows.",
        {"mixed_batch": ("*mixed*", "*8 tasks*", "*"), "generation": ("*fp32*limit*", "*limit*", "*bandwidth*")},
    ),
)


class Verdict(NamedTuple):
    """What a ratio came to.

    Attributes:
        name: Of the ratio.
        value: In four significant digits.
        between: Its interval, in words; empty if it has one sample.
        goal: In words; empty if there is none.
        state: `met`, `missed` or empty.
        sure: Whether the goal lies outside of the interval.
        benchmark: Whose it is.
    """

    name: str
    value: str
    between: str
    goal: str
    state: str
    sure: bool
    benchmark: str


STATES = {True: "met", False: "missed", None: ""}


def verdict(results: Results, one: Ratio) -> Verdict:
    """What a ratio came to, beside its goal."""
    found = results.value(one)
    state = STATES[one.met(found.value)]
    goal = "" if one.goal is None else f"{'at least' if one.at_least else 'at most'} {number(one.goal)}"
    sure = one.met(found.low) == one.met(found.high)
    return Verdict(one.name, number(found.value), between(found), goal, state, sure, results.name)


def verdicts(results: Results) -> list[Verdict]:
    """All ratios of a benchmark."""
    return [verdict(results, one) for one in results.ratios]


class Figure(NamedTuple):
    """A figure that matters, as it was measured.

    Attributes:
        headline: Which.
        lines: What it came to.
        missing: The benchmarks that should say it and do not.
    """

    headline: Headline
    lines: list[Verdict]
    missing: list[str]


def headlines(found: Mapping[str, Results]) -> Iterator[Figure]:
    """Each figure that matters, and what it came to, as far as it was measured."""
    for headline in HEADLINES:
        lines = {
            name: _lines(found[name], patterns) if name in found else [] for name, patterns in headline.wanted.items()
        }
        missing = [name for name, own in lines.items() if not own]
        yield Figure(headline, [line for own in lines.values() for line in own], missing)


def _lines(results: Results, patterns: Sequence[str]) -> list[Verdict]:
    matching = ([one for one in results.ratios if fnmatchcase(one.name.lower(), pattern)] for pattern in patterns)
    return [verdict(results, one) for one in next(filter(None, matching), [])[:MOST_LINES]]
