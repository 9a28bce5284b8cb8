"""Workers as the benchmark controls them: one process each, stopped between requests."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from benchmarks.peers.environments import interpreter_of, surroundings
from benchmarks.peers.places import LOGS, ROOT


class WorkerError(RuntimeError):
    """A worker could not answer; its log has the details."""


class Worker:
    """The process of a worker. It is stopped between requests, so its waiting threads take no time from the others.

    Args:
        name: Name in messages and of its log.
        module: The program, a module in `benchmarks.peers.workers`.
        peer: The peer whose environment it runs in; None is this one.
        arguments: The program's arguments.

    Attributes:
        load_ms: Time to load, without starting the interpreter and importing libraries.
        versions: The versions of its libraries.

    Raises:
        WorkerError: It could not load.
    """

    def __init__(self, name: str, module: str, peer: str | None, arguments: Sequence[str]) -> None:
        self.name = name
        LOGS.mkdir(parents=True, exist_ok=True)
        self._log = LOGS / f"worker-{''.join(c if c.isalnum() else '-' for c in name)}.log"
        with self._log.open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                [interpreter_of(peer), "-m", f"benchmarks.peers.workers.{module}", *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=surroundings(peer),
                cwd=ROOT,
                text=True,
            )
        try:
            ready = self._read()
        except BaseException:
            self.end()
            raise
        self.load_ms: float = ready["load_ms"]
        self.versions: dict[str, str] = ready["versions"]
        self._process.send_signal(signal.SIGSTOP)

    def __enter__(self) -> Self:
        """Return the worker itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End the process."""
        self.end()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a request.

        Raises:
            WorkerError: There is none.
        """
        assert self._process.stdin is not None
        self._process.send_signal(signal.SIGCONT)
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return self._read()  # its last words may still be readable
        answer = self._read()
        self._process.send_signal(signal.SIGSTOP)
        return answer

    def stop(self) -> dict[str, Any]:
        """Stop the worker; return its memory.

        Raises:
            WorkerError: It ended before.
        """
        answer = self.ask({"stop": True})
        self.end()
        return answer

    def end(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None and not stream.closed:
                try:
                    stream.close()
                except BrokenPipeError:  # the last write may have had no reader
                    continue

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": f"the process ended; see {self._log}"}
        if "error" in answer:
            message = f"{self.name}: {answer['error']}"
            raise WorkerError(message)
        return answer
