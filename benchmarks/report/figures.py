"""The figures that matter, for the first screen: which ratios of which benchmarks they are. Edit the table.

A pattern is of shell style and looked for in the names of a benchmark's ratios without regard to case. All that match
are shown, one a line; only those with a goal, if any has one, and of more than `MOST_LINES` the worst.
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
        {"swap": ("peft over *warm*", "peft over *", "peft*warm*")},
    ),
    Headline(
        "A warm swap beside another session",
        "How many times quicker than opening another network.",
        {"swap": ("another session over *",)},
    ),
    Headline(
        "A thousand tasks in memory",
        "The memory of a thousand tasks over that of one and the tasks' own bytes.",
        {"many_tasks": ("*resident memory, 1,000 tasks*", "*memory*over one*", "*thousand tasks*")},
    ),
    Headline(
        "Fifty folded deep tokens",
        "The time of an image under a folded deep prompt over that without a prompt.",
        {"prompt_cost": ("*50 folded tokens, over no prompt", "*50 folded*")},
    ),
    Headline(
        "Throughput beside its limits",
        "A batch of eight tasks over one of a single task; tokens a second over what the bandwidth of memory allows.",
        {
            "mixed_batch": ("*mixed batch*over batch of one task", "*mixed*"),
            "generation": (
                "edge-prompt*fp32: decode, of what memory gives",
                "edge-prompt*decode, of what memory gives",
            ),
        },
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
        hidden: How many more ratios there are, no worse than these.
    """

    headline: Headline
    lines: list[Verdict]
    missing: list[str]
    hidden: int


def headlines(found: Mapping[str, Results]) -> Iterator[Figure]:
    """Each figure that matters, and what it came to, as far as it was measured."""
    for headline in HEADLINES:
        matching = {
            name: _matching(found[name], patterns) for name, patterns in headline.wanted.items() if name in found
        }
        shown = [verdict(found[name], one) for name, own in matching.items() for one in _worst(found[name], own)]
        missing = [name for name in headline.wanted if not matching.get(name)]
        yield Figure(headline, shown, missing, sum(map(len, matching.values())) - len(shown))


def _matching(results: Results, patterns: Sequence[str]) -> list[Ratio]:
    """The ratios of the first pattern that has some; those with a goal, if any has one."""
    matching = ([one for one in results.ratios if fnmatchcase(one.name.lower(), pattern)] for pattern in patterns)
    found = next(filter(None, matching), [])
    return [one for one in found if one.goal is not None] or found


def _worst(results: Results, ratios: Sequence[Ratio]) -> list[Ratio]:
    """The worst of them, in the order they were in."""

    def badness(one: Ratio) -> float:
        value = results.value(one).value
        return -value if one.at_least else value

    taken = sorted(ratios, key=badness, reverse=True)[:MOST_LINES]
    return [one for one in ratios if one in taken]
