"""The metrics of a runtime for Prometheus: text format 0.0.4, served by the standard library in a thread."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from types import TracebackType
from typing import NamedTuple, Protocol, Self

from edge_prompt.base.errors import InputError
from edge_prompt_runtime.metrics.stats import Latency, Stats, Traffic

LOG = logging.getLogger("edge_prompt.prometheus")

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

PATH = "/metrics"

SLOWEST_S = 5.0
"""Timeout of a client that sends nothing."""

Sample = tuple[str, Mapping[str, str], float]
"""A suffix of the metric's name, labels, and a value."""


class Metric(NamedTuple):
    """A metric: its name without `edge_prompt_`, its type, its help text, and its samples."""

    name: str
    kind: str
    description: str
    samples: Iterable[Sample]


class HasStats(Protocol):
    """An object that has statistics: a `Runtime`."""

    def stats(self) -> Stats:
        """Return the current statistics."""


class Exposition:
    """Serves the metrics until it is closed; also a context manager. Serves one client at a time.

    Args:
        read: Returns the current statistics.
        port: The port; 0 chooses a free one.
        host: The address to listen on.

    Attributes:
        port: The port that the server listens on.

    Raises:
        InputError: The server cannot listen on this address.
    """

    def __init__(self, read: Callable[[], Stats], port: int, host: str) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = SLOWEST_S

            def do_GET(self) -> None:
                if self.path.partition("?")[0] != PATH:
                    self.send_error(404, f"the metrics are at {PATH}")
                    return
                content = text_of(read()).encode()
                self.send_response(200)
                self.send_header("Content-Type", CONTENT_TYPE)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, form: str, *values: object) -> None:
                LOG.debug(form, *values)

        try:
            self._server = HTTPServer((host, port), Handler)
        except (OSError, OverflowError) as error:
            raise InputError(
                found=f"the server cannot listen on {host}:{port} ({error})",
                wanted="a free port on an address of this device",
                remedy="choose another port or host",
            ) from error
        self.port: int = self._server.server_address[1]
        self._thread = Thread(target=self._server.serve_forever, name="edge-prompt prometheus", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the server; returns after a running request has been answered."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        """Return the server itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the server."""
        self.close()


def expose(runtime: HasStats, port: int, host: str = "127.0.0.1") -> Exposition:
    """Serve the metrics of `runtime` at `http://host:port/metrics`, in a thread.

    Anyone who can reach the address can read the names of tasks and how much they are used. By default, only programs
    on this device can.

    Args:
        runtime: The runtime.
        port: The port; 0 chooses a free one, see `Exposition.port`.
        host: The address to listen on.

    Raises:
        InputError: The server cannot listen on this address.
    """
    return Exposition(runtime.stats, port, host)


def text_of(stats: Stats) -> str:
    """Format statistics in the Prometheus text format 0.0.4."""
    lines = []
    for name, kind, description, samples in _metrics(stats):
        lines += [f"# HELP edge_prompt_{name} {description}", f"# TYPE edge_prompt_{name} {kind}"]
        for suffix, labels, value in samples:
            shown = ",".join(f'{label}="{escaped(text)}"' for label, text in labels.items())
            lines.append(f"edge_prompt_{name}{suffix}{{{shown}}} {value!r}")
    return "\n".join([*lines, ""])


def escaped(text: str) -> str:
    """Escape the value of a label."""
    text = text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return text.encode(errors="replace").decode()  # replaces lone surrogates, which UTF-8 cannot encode


def _metrics(stats: Stats) -> Iterator[Metric]:
    calls = [({"call": name}, traffic) for name, traffic in stats.calls.items()]
    tasks: list[tuple[dict[str, str], Traffic]] = [
        ({"of": "base" if traffic.name is None else "task", "task": traffic.name or ""}, traffic)
        for traffic in stats.tasks
    ]
    tasks.append(({"of": "other", "task": ""}, stats.other))
    since = datetime.fromisoformat(stats.since).timestamp()
    yield Metric("start_time_seconds", "gauge", "When the runtime was opened.", [("", {}, since)])
    for prefix, groups, of in (("", calls, "method"), ("task_", tasks, "task")):
        counted = {
            "requests": "Calls that ended",
            "rows": "Rows of calls that ended",
            "errors": "Calls that ended with an error",
        }
        for name, description in counted.items():
            samples = [("", labels, getattr(traffic, name)) for labels, traffic in groups]
            yield Metric(f"{prefix}{name}_total", "counter", f"{description}, by {of}.", samples)
        yield Metric(
            f"{prefix}latency_seconds",
            "summary",
            f"Latency of answered calls, by {of}.",
            [sample for labels, traffic in groups for sample in _summary(labels, traffic.latency)],
        )
    errors = [("", {"class": name}, count) for name, count in stats.errors.items()]
    yield Metric("errors_by_class_total", "counter", "Calls that ended with an error, by class of error.", errors)
    yield Metric(
        "first_piece_seconds", "summary", "Time from call to first piece of text.", _summary({}, stats.first_piece)
    )
    for name, description in (
        ("tokens", "Generated tokens."),
        ("loads", "Prompts that were loaded."),
        ("replacements", "Prompts that replaced an older one of the same name."),
        ("unloads", "Tasks that were unloaded."),
        ("evictions", "Tasks evicted because the memory budget was exceeded."),
        ("refusals", "Prompts that were refused."),
    ):
        yield Metric(f"{name}_total", "counter", description, [("", {}, getattr(stats, name))])
    held = [("", {"what": what}, size) for what, size in stats.bytes_held.items()]
    yield Metric("held_bytes", "gauge", "Memory in use in addition to the network.", held)


def _summary(labels: Mapping[str, str], latency: Latency | None) -> list[Sample]:
    if latency is None:
        return []
    quantiles = {"0.5": latency.p50_ms, "0.95": latency.p95_ms, "0.99": latency.p99_ms}
    found: list[Sample] = [("", {**labels, "quantile": share}, ms / 1e3) for share, ms in quantiles.items()]
    return [*found, ("_sum", labels, latency.total_ms / 1e3), ("_count", labels, latency.count)]
