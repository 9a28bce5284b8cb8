"""What a runtime says of itself: figures at one moment, immutable, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from edge_prompt_runtime.metrics.histogram import Histogram


@dataclass(frozen=True)
class Latency:
    """How long answers took, in milliseconds; percentiles are within 2.5 %.

    Attributes:
        count: How many there were.
        total_ms: All together.
        p50_ms: Half took at most so long.
        p95_ms: 95 % did.
        p99_ms: 99 % did.
        max_ms: The longest.
    """

    count: int
    total_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True)
class Traffic:
    """What was asked, and how long answers took.

    Attributes:
        requests: How many calls ended, with an answer or an error; of a stream of pieces, once it is read or closed.
        rows: Texts, images or rows of arrays in them, as far as they could be read.
        errors: Calls that ended with an error.
        latency: Of the calls that were answered; None if none was.
    """

    requests: int
    rows: int
    errors: int
    latency: Latency | None


@dataclass(frozen=True)
class TaskTraffic(Traffic):
    """Traffic of one task. A call with rows of several tasks counts, and takes as long, for each of them.

    Attributes:
        name: Its name; None is the base model.
    """

    name: str | None


@dataclass(frozen=True)
class Refusal:
    """A prompt that was not loaded.

    Attributes:
        when: ISO 8601, UTC.
        task: The name it was to have.
        reason: What was wrong with it.
    """

    when: str
    task: str
    reason: str


@dataclass(frozen=True)
class Stats:
    """Figures of a runtime since it was opened.

    Attributes:
        since: When it was opened: ISO 8601, UTC.
        uptime_s: Seconds since then, whatever was done to the clock.
        total: All calls.
        calls: Those of each method, by its name.
        tasks: Those of each task, of at most `edge_prompt_runtime.metrics.recorder.MOST_TASKS`.
        other: Those of all other tasks, and of tasks that were unloaded.
        errors: How many errors of each class there were.
        first_piece: Of generation: from the call to the first piece of text.
        tokens: How many tokens were generated.
        loads: How many prompts were read and taken.
        replacements: How many of them took the place of an older one of that name.
        unloads: How many were unloaded, or had their files removed.
        evictions: How many were let go for want of room.
        refusals: How many prompts were refused.
        recent_refusals: The last of them.
        bytes_held: What is held in memory: `prompts`, `heads`, and of language models `compiled` keys and values.
    """

    since: str
    uptime_s: float
    total: Traffic
    calls: Mapping[str, Traffic]
    tasks: tuple[TaskTraffic, ...]
    other: Traffic
    errors: Mapping[str, int]
    first_piece: Latency | None
    tokens: int
    loads: int
    replacements: int
    unloads: int
    evictions: int
    refusals: int
    recent_refusals: tuple[Refusal, ...]
    bytes_held: Mapping[str, int]

    def to_json(self) -> str:
        """As one JSON object, its fields by name."""
        return json.dumps(asdict(self))


def latency_of(histogram: Histogram) -> Latency | None:
    """What a histogram says; None if it is empty."""
    if not histogram.count:
        return None
    p50_ms, p95_ms, p99_ms = (histogram.quantile_ns(share) / 1e6 for share in (0.5, 0.95, 0.99))
    return Latency(histogram.count, histogram.total_ns / 1e6, p50_ms, p95_ms, p99_ms, histogram.greatest_ns / 1e6)
