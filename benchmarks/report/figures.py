"""The key figures on the first screen of the report: a table of ratios, to be edited here.

Patterns are of shell style and match names of a benchmark's ratios regardless of case. All matches are shown, one per
line; only those with a goal, if any has one, and the worst if there are more than `MOST_LINES`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from edge_prompt_runtime.bench.results import Ratio, Results
from edge_prompt_runtime.bench.tables import between, number

MOST_LINES = 2
"""Maximum of ratios per benchmark on the first screen; the benchmark's section has all."""


class Headline(NamedTuple):
    """A key figure.

    Attributes:
        title: Title of a few words.
        says: The meaning of the ratio, in a sentence.
        wanted: By benchmark, patterns of ratio names; the first pattern that matches any ratio counts.
    """

    title: str
    says: str
    wanted: Mapping[str, tuple[str, ...]]


HEADLINES = (
    Headline(
        "Warm swap compared with PEFT",
        "How many times faster a task is ready than with PEFT's `set_adapter`.",
        {"swap": ("peft over *warm*", "peft over *", "peft*warm*")},
    ),
    Headline(
        "Warm swap compared with loading another network",
        "How many times faster than loading another network.",
        {"swap": ("load another network over *",)},
    ),
    Headline(
        "Memory of a thousand tasks",
        "Memory of a thousand tasks, relative to that of one task plus the bytes of the other prompts.",
        {"many_tasks": ("*resident memory, 1,000 tasks*", "*memory*over one*", "*thousand tasks*")},
    ),
    Headline(
        "Fifty folded deep tokens",
        "Time per image under a folded deep prompt, relative to no prompt.",
        {"prompt_cost": ("*50 folded tokens over no prompt", "*50 folded*")},
    ),
    Headline(
        "Throughput compared with its limits",
        "A batch of eight tasks relative to one task; tokens per second relative to the limit by memory bandwidth.",
        {
            "mixed_batch": ("*mixed batch*over batch of one task", "*mixed*"),
            "generation": (
                "edge-prompt*fp32: decode over limit by memory bandwidth",
                "edge-prompt*decode over limit by memory bandwidth",
            ),
        },
    ),
)


class Verdict(NamedTuple):
    """The outcome of a ratio.

    Attributes:
        name: Name of the ratio.
        value: The value in four significant digits.
        between: Its interval in words; empty if there is one sample.
        goal: The goal in words; empty if there is none.
        state: `met`, `missed` or empty.
        sure: Whether the goal lies outside of the interval.
        benchmark: Name of the benchmark.
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
    """Compare a ratio with its goal."""
    found = results.value(one)
    state = STATES[one.met(found.value)]
    goal = "" if one.goal is None else f"{'at least' if one.at_least else 'at most'} {number(one.goal)}"
    sure = one.met(found.low) == one.met(found.high)
    return Verdict(one.name, number(found.value), between(found), goal, state, sure, results.name)


def verdicts(results: Results) -> list[Verdict]:
    """Return the verdicts on all ratios of a benchmark."""
    return [verdict(results, one) for one in results.ratios]


class Figure(NamedTuple):
    """A key figure as measured.

    Attributes:
        headline: The key figure.
        lines: The verdicts.
        missing: Benchmarks that should provide it but do not.
        hidden: Number of further ratios, none worse than these.
    """

    headline: Headline
    lines: list[Verdict]
    missing: list[str]
    hidden: int


def headlines(found: Mapping[str, Results]) -> Iterator[Figure]:
    """Return each key figure with its verdicts, as far as it was measured."""
    for headline in HEADLINES:
        matching = {
            name: _matching(found[name], patterns) for name, patterns in headline.wanted.items() if name in found
        }
        shown = [verdict(found[name], one) for name, own in matching.items() for one in _worst(found[name], own)]
        missing = [name for name in headline.wanted if not matching.get(name)]
        yield Figure(headline, shown, missing, sum(map(len, matching.values())) - len(shown))


def _matching(results: Results, patterns: Sequence[str]) -> list[Ratio]:
    """Return the ratios of the first pattern that matches any; only those with a goal, if any has one."""
    matching = ([one for one in results.ratios if fnmatchcase(one.name.lower(), pattern)] for pattern in patterns)
    found = next(filter(None, matching), [])
    return [one for one in found if one.goal is not None] or found


def _worst(results: Results, ratios: Sequence[Ratio]) -> list[Ratio]:
    """Return the worst of them, in their original order."""

    def badness(one: Ratio) -> float:
        value = results.value(one).value
        return -value if one.at_least else value

    taken = sorted(ratios, key=badness, reverse=True)[:MOST_LINES]
    return [one for one in ratios if one in taken]
