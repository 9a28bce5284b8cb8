"""The metrics of a runtime for Prometheus, served in a thread. Needs the extra `metrics`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from threading import Thread
from types import TracebackType
from typing import Protocol, Self
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from edge_prompt.base.errors import InputError
from edge_prompt.base.extras import require_extra
from edge_prompt_runtime.metrics.stats import Stats

__all__ = ["Exposition", "expose"]

LOG = logging.getLogger("edge_prompt.prometheus")

PATH = "/metrics"

CLIENT_TIMEOUT_S = 5.0
"""Timeout of a client that sends nothing."""


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
        MissingExtraError: The extra `metrics` is not installed.
        InputError: The server cannot listen on this address.
    """

    def __init__(self, read: Callable[[], Stats], port: int, host: str) -> None:
        require_extra("metrics", "serving metrics")
        try:
            self._server = make_server(host, port, _application(read), handler_class=_Handler)
        except (OSError, OverflowError) as error:
            raise InputError(
                found=f"the server cannot listen on {host}:{port} ({error})",
                wanted="a free port on an address of this device",
                remedy="choose another port or host",
            ) from error
        self.port: int = self._server.server_port
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
        MissingExtraError: The extra `metrics` is not installed.
        InputError: The server cannot listen on this address.
    """
    return Exposition(runtime.stats, port, host)


class _Handler(WSGIRequestHandler):
    timeout = CLIENT_TIMEOUT_S

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        LOG.debug(format, *args)


def _application(read: Callable[[], Stats]) -> WSGIApplication:
    from prometheus_client import CollectorRegistry, make_wsgi_app  # noqa: PLC0415 - an extra

    from edge_prompt_runtime.metrics.families import StatsCollector  # noqa: PLC0415 - an extra

    registry = CollectorRegistry()
    registry.register(StatsCollector(read))
    metrics: WSGIApplication = make_wsgi_app(registry)

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] != PATH:
            start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
            return [f"The metrics are at {PATH}\n".encode()]
        # Without this header the library answers in the text format 0.0.4, whatever else a client would accept.
        environ.pop("HTTP_ACCEPT", None)
        return metrics(environ, start_response)

    return application
