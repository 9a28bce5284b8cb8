from __future__ import annotations

import logging
import socket
from http.client import HTTPConnection

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from edge_prompt.base import extras
from edge_prompt.base.errors import InputError, MissingExtraError
from edge_prompt_runtime.metrics.call import Call
from edge_prompt_runtime.metrics.exposition import Exposition, expose
from edge_prompt_runtime.metrics.families import StatsCollector
from edge_prompt_runtime.metrics.recorder import Recorder
from edge_prompt_runtime.metrics.stats import Stats

TEXT_FORMAT = "text/plain; version=0.0.4; charset=utf-8"

KINDS = {
    "edge_prompt_start_time_seconds": "gauge",
    "edge_prompt_requests": "counter",
    "edge_prompt_rows": "counter",
    "edge_prompt_errors": "counter",
    "edge_prompt_latency_seconds": "summary",
    "edge_prompt_task_requests": "counter",
    "edge_prompt_task_rows": "counter",
    "edge_prompt_task_errors": "counter",
    "edge_prompt_task_latency_seconds": "summary",
    "edge_prompt_errors_by_class": "counter",
    "edge_prompt_first_piece_seconds": "summary",
    "edge_prompt_tokens": "counter",
    "edge_prompt_loads": "counter",
    "edge_prompt_replacements": "counter",
    "edge_prompt_unloads": "counter",
    "edge_prompt_evictions": "counter",
    "edge_prompt_refusals": "counter",
    "edge_prompt_held_bytes": "gauge",
}
SUFFIXES = {"counter": {"_total"}, "gauge": {""}, "summary": {"", "_sum", "_count"}}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(text: str) -> Samples:
    """Parse the text with the library's parser: all families with their types, and each sample once."""
    found: Samples = {}
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert {name: family.type for name, family in families.items()} == KINDS
    for family in families.values():
        assert family.documentation.endswith(".")
        for sample in family.samples:
            assert sample.name.removeprefix(family.name) in SUFFIXES[family.type]
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found
            found[key] = sample.value
    return found


def text_of(stats: Stats) -> str:
    registry = CollectorRegistry()
    registry.register(StatsCollector(lambda: stats))
    return generate_latest(registry).decode()


def get(exposition: Exposition, path: str, method: str = "GET", accept: str = "") -> tuple[int, str | None, str]:
    connection = HTTPConnection("127.0.0.1", exposition.port)
    try:
        connection.request(method, path, headers={"Accept": accept} if accept else {})
        response = connection.getresponse()
        return response.status, response.getheader("Content-Type"), response.read().decode()
    finally:
        connection.close()


class Service:
    """An object with statistics."""

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.stats = self.recorder.stats

    def answer(self) -> None:
        with Call("classify", self.recorder):
            pass


def test_metrics_are_served_over_http() -> None:
    service = Service()
    service.answer()
    service.recorder.register_memory("prompts", lambda: 42)
    with expose(service, 0) as exposition:
        status, content_type, text = get(exposition, "/metrics")
        assert (status, content_type) == (200, TEXT_FORMAT)
        found = parsed(text)
        assert found["edge_prompt_requests_total", frozenset({("call", "classify")})] == 1
        assert found["edge_prompt_latency_seconds_count", frozenset({("call", "classify")})] == 1
        assert found["edge_prompt_latency_seconds", frozenset({("call", "classify"), ("quantile", "0.99")})] > 0
        assert found["edge_prompt_held_bytes", frozenset({("what", "prompts")})] == 42
        assert found["edge_prompt_start_time_seconds", frozenset()] > 1.7e9
        service.answer()
        again = parsed(get(exposition, "/metrics?x=1")[2])
        assert again["edge_prompt_requests_total", frozenset({("call", "classify")})] == 2
    with pytest.raises(ConnectionRefusedError):
        get(exposition, "/metrics")


def test_each_client_gets_the_text_format() -> None:
    accept = "application/openmetrics-text;version=1.0.0,text/plain;version=1.0.0;q=0.5"
    with expose(Service(), 0) as exposition:
        status, content_type, text = get(exposition, "/metrics", accept=accept)
    assert (status, content_type) == (200, TEXT_FORMAT)
    assert "_created" not in text
    parsed(text)


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'edge-prompt\[metrics\]'"):
        expose(Service(), 0)


def test_other_paths_and_methods_are_refused(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "edge_prompt"), expose(Service(), 0) as exposition:
        assert get(exposition, "/")[0] == 404
        assert get(exposition, "/metrics", "POST")[0] == 405
    assert capfd.readouterr() == ("", "")
    assert "404" in caplog.text


def test_only_this_device_can_connect_by_default() -> None:
    with expose(Service(), 0) as exposition:
        assert exposition._server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize(("port", "host"), [(None, "127.0.0.1"), (70_000, "127.0.0.1"), (0, "256.0.0.1")])
def test_an_address_that_cannot_be_listened_on_is_refused(port: int | None, host: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="the server cannot listen on"):
            expose(Service(), taken.getsockname()[1] if port is None else port, host)


@given(st.lists(st.text(), min_size=1, max_size=4, unique=True))
def test_any_task_name_gives_valid_text(names: list[str]) -> None:
    recorder = Recorder()
    for name in names:
        with Call("infer", recorder) as call:
            call.tasks = [type("Named", (), {"name": name})()]
    found = parsed(text_of(recorder.stats()))
    for name in filter(None, names):
        shown = name.encode(errors="replace").decode()
        assert found["edge_prompt_task_requests_total", frozenset({("of", "task"), ("task", shown)})] == 1


def test_lone_surrogates_in_a_task_name_are_replaced() -> None:
    recorder = Recorder()
    with Call("infer", recorder) as call:
        call.tasks = [type("Named", (), {"name": 'a\ud800\\"\n'})()]
    assert (
        'edge_prompt_task_requests_total{of="task",task="a?\\\\\\"\\n"} 1.0' in text_of(recorder.stats()).splitlines()
    )
