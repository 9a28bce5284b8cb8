"""Statistics of a runtime: an immutable snapshot, also available as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from edge_prompt_runtime.metrics.histogram import Histogram


@dataclass(frozen=True)
class Latency:
    """Latencies in milliseconds; percentiles are exact to 2.5 %.

    Attributes:
        count: Number of calls.
        total_ms: Sum of all latencies.
        p50_ms: Median.
        p95_ms: 95th percentile.
        p99_ms: 99th percentile.
        max_ms: Longest latency.
    """

    count: int
    total_ms: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True)
class Traffic:
    """Counts and latencies of calls.

    Attributes:
        requests: Number of calls that ended, with an answer or an error. A stream ends when it is exhausted or closed.
        rows: Number of texts, images or array rows in these calls, as far as they could be read.
        errors: Number of calls that ended with an error.
        latency: Latencies of the calls that were answered; None if there were none.
    """

    requests: int
    rows: int
    errors: int
    latency: Latency | None


@dataclass(frozen=True)
class TaskTraffic(Traffic):
    """Traffic of one task. A call with rows of several tasks counts with its full latency for each of them.

    Attributes:
        name: Name of the task; None is the base model.
    """

    name: str | None


@dataclass(frozen=True)
class Refusal:
    """A prompt that was refused.

    Attributes:
        when: Time of the refusal, ISO 8601 in UTC.
        task: Name of the task.
        reason: The error message.
    """

    when: str
    task: str
    reason: str


@dataclass(frozen=True)
class Stats:
    """Statistics of a runtime since it was opened.

    Attributes:
        since: When the runtime was opened, ISO 8601 in UTC.
        uptime_s: Seconds since then, by a monotonic clock.
        total: Traffic of all calls.
        calls: Traffic of each method, by its name.
        tasks: Traffic of each task, for at most `edge_prompt_runtime.metrics.recorder.MOST_TASKS` tasks.
        other: Traffic of all other tasks, and of tasks that were unloaded.
        errors: Number of errors of each class.
        first_piece: Time from a call of generation to its first piece of text.
        tokens: Number of generated tokens.
        loads: Number of prompts that were loaded.
        replacements: Number of loaded prompts that replaced an older one of the same name.
        unloads: Number of tasks that were unloaded, or whose files were removed.
        evictions: Number of tasks that were evicted because the memory budget was exceeded.
        refusals: Number of prompts that were refused.
        recent_refusals: The most recent refusals.
        bytes_held: Memory in use for `prompts`, `heads`, and for language models `compiled` keys and values.
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
        """Return the statistics as one JSON object."""
        return json.dumps(asdict(self))


def latency_of(histogram: Histogram) -> Latency | None:
    """Summarise a histogram; None if it is empty."""
    if not histogram.count:
        return None
    p50_ms, p95_ms, p99_ms = (histogram.quantile_ns(share) / 1e6 for share in (0.5, 0.95, 0.99))
    return Latency(histogram.count, histogram.total_ns / 1e6, p50_ms, p95_ms, p99_ms, histogram.greatest_ns / 1e6)
