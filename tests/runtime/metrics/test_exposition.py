from __future__ import annotations

import logging
import re
import socket
from http.client import HTTPConnection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_prompt.base.errors import InputError
from edge_prompt_runtime.metrics.call import Call
from edge_prompt_runtime.metrics.exposition import CONTENT_TYPE, Exposition, escaped, expose, text_of
from edge_prompt_runtime.metrics.recorder import Recorder

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\\\|\\"|\\n)*)"'
SAMPLE = re.compile(rf"({NAME})\{{((?:{LABEL}(?:,{LABEL})*)?)\}} (-?[0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?)")
UNESCAPED = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}
SUFFIXES = {"counter": {""}, "gauge": {""}, "summary": {"", "_sum", "_count"}}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def parsed(text: str) -> Samples:
    """Parse the text strictly: each metric has help and type once, before its samples."""
    assert text.endswith("\n")
    found: Samples = {}
    metric, kind, seen = "", "", set()
    for line in text[:-1].split("\n"):
        if match := re.fullmatch(rf"# HELP ({NAME}) [^\\]+", line):
            metric, kind = match[1], ""
            assert metric not in seen
            seen.add(metric)
        elif match := re.fullmatch(rf"# TYPE ({NAME}) (counter|gauge|summary)", line):
            assert (match[1], kind) == (metric, "")
            kind = match[2]
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            assert match[1].startswith(metric)
            assert match[1][len(metric) :] in SUFFIXES[kind]
            labels = re.findall(LABEL, match[2])
            pairs = frozenset((name, re.sub(r'\\[\\"n]', lambda part: UNESCAPED[part[0]], v)) for name, v in labels)
            assert len(dict(labels)) == len(labels)
            assert (match[1], pairs) not in found
            found[match[1], pairs] = float(match[len(match.groups())])
    return found


def get(exposition: Exposition, path: str, method: str = "GET") -> tuple[int, str | None, str]:
    connection = HTTPConnection("127.0.0.1", exposition.port)
    try:
        connection.request(method, path)
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


def test_figures_are_served_over_http() -> None:
    service = Service()
    service.answer()
    service.recorder.register_memory("prompts", lambda: 42)
    with expose(service, 0) as exposition:
        status, content_type, text = get(exposition, "/metrics")
        assert (status, content_type) == (200, CONTENT_TYPE)
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


def test_nothing_else_is_served(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "edge_prompt"), expose(Service(), 0) as exposition:
        assert get(exposition, "/")[0] == 404
        assert get(exposition, "/metrics", "POST")[0] == 501
    assert capfd.readouterr() == ("", "")
    assert "404" in caplog.text


def test_only_this_device_reaches_it_by_default() -> None:
    with expose(Service(), 0) as exposition:
        assert exposition._server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize(("port", "host"), [(None, "127.0.0.1"), (70_000, "127.0.0.1"), (0, "256.0.0.1")])
def test_an_address_where_one_cannot_listen_is_refused_in_one_sentence(port: int | None, host: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(InputError, match="the server cannot listen on"):
            expose(Service(), taken.getsockname()[1] if port is None else port, host)


@given(st.lists(st.text(), min_size=1, max_size=4, unique=True))
def test_whatever_a_task_is_called_the_text_is_of_the_format(names: list[str]) -> None:
    recorder = Recorder()
    for name in names:
        with Call("infer", recorder) as call:
            call.tasks = [type("Named", (), {"name": name})()]
    found = parsed(text_of(recorder.stats()))
    for name in filter(None, names):
        assert found["edge_prompt_task_requests_total", frozenset({("of", "task"), ("task", name)})] == 1


def test_a_name_that_is_no_unicode_is_replaced() -> None:
    assert escaped('a\ud800\\"\n') == 'a?\\\\\\"\\n'
