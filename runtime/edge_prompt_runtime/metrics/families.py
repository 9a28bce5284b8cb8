"""Statistics as metric families of the Prometheus client library. Needs the extra `metrics`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from edge_prompt_runtime.metrics.stats import Latency, Stats, Traffic

_Groups = list[tuple[dict[str, str], Traffic]]

_TRAFFIC = {
    "requests": "Calls that ended",
    "rows": "Rows of calls that ended",
    "errors": "Calls that ended with an error",
}
"""Counters of each method and each task: attributes of `Traffic` and the start of their help texts."""

_COUNTERS = {
    "tokens": "Generated tokens.",
    "loads": "Prompts that were loaded.",
    "replacements": "Prompts that replaced an older one of the same name.",
    "unloads": "Tasks that were unloaded.",
    "evictions": "Tasks evicted because the memory budget was exceeded.",
    "refusals": "Prompts that were refused.",
}
"""Counters of the whole runtime: attributes of `Stats` and their help texts."""


class StatsCollector(Collector):
    """Reads the statistics whenever the metrics are requested.

    Args:
        read: Returns the current statistics.
    """

    def __init__(self, read: Callable[[], Stats]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """Yield the families, under the prefix `edge_prompt_`."""
        stats = self._read()
        started = datetime.fromisoformat(stats.since).timestamp()
        yield GaugeMetricFamily("edge_prompt_start_time_seconds", "When the runtime was opened.", started)
        yield from _traffic("", "method", [({"call": name}, traffic) for name, traffic in stats.calls.items()])
        yield from _traffic("task_", "task", _by_task(stats))
        errors = [({"class": name}, count) for name, count in stats.errors.items()]
        yield _counter("errors_by_class", "Calls that ended with an error, by class of error.", errors)
        yield _summary("first_piece_seconds", "Time from call to first piece of text.", [({}, stats.first_piece)])
        for name, description in _COUNTERS.items():
            yield _counter(name, description, [({}, getattr(stats, name))])
        held = GaugeMetricFamily("edge_prompt_held_bytes", "Memory in use in addition to the network.")
        for what, size in stats.bytes_held.items():
            held.add_sample(held.name, {"what": what}, size)
        yield held


def _by_task(stats: Stats) -> _Groups:
    named: _Groups = [
        ({"of": "base" if traffic.name is None else "task", "task": _unicode(traffic.name or "")}, traffic)
        for traffic in stats.tasks
    ]
    return [*named, ({"of": "other", "task": ""}, stats.other)]


def _traffic(prefix: str, by: str, groups: _Groups) -> Iterator[Metric]:
    for name, description in _TRAFFIC.items():
        samples = [(labels, getattr(traffic, name)) for labels, traffic in groups]
        yield _counter(f"{prefix}{name}", f"{description}, by {by}.", samples)
    latencies = [(labels, traffic.latency) for labels, traffic in groups]
    yield _summary(f"{prefix}latency_seconds", f"Latency of answered calls, by {by}.", latencies)


def _counter(name: str, description: str, samples: list[tuple[dict[str, str], int]]) -> Metric:
    family = CounterMetricFamily(f"edge_prompt_{name}", description)
    for labels, value in samples:
        family.add_sample(f"{family.name}_total", labels, value)
    return family


def _summary(name: str, description: str, samples: list[tuple[dict[str, str], Latency | None]]) -> Metric:
    """Return a summary with quantiles, which the library's own method for adding a sample leaves out."""
    family = SummaryMetricFamily(f"edge_prompt_{name}", description)
    for labels, latency in samples:
        if latency is None:
            continue
        for share, value in {"0.5": latency.p50_ms, "0.95": latency.p95_ms, "0.99": latency.p99_ms}.items():
            family.add_sample(family.name, {**labels, "quantile": share}, value / 1e3)
        family.add_sample(f"{family.name}_sum", labels, latency.total_ms / 1e3)
        family.add_sample(f"{family.name}_count", labels, latency.count)
    return family


def _unicode(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot encode."""
    return text.encode(errors="replace").decode()
