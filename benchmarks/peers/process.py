"""Workers as the benchmark sees them: a process each, that stands still while it is not asked."""

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
    """A worker could not do what it was asked; its log says more."""


class Worker:
    """A worker's process. Between requests it is stopped, so its waiting threads take nothing from the others.

    Args:
        name: What it is called in messages, and its log.
        module: The program, a module below `benchmarks.peers.workers`.
        peer: Whose environment it runs in; None is this one.
        arguments: The program's arguments.

    Attributes:
        load_ms: How long loading took, without starting the interpreter and importing libraries.
        versions: The versions of the libraries that it runs on.

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
        """Itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End the process."""
        self.end()

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request.

        Raises:
            WorkerError: It has none.
        """
        assert self._process.stdin is not None
        self._process.send_signal(signal.SIGCONT)
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return self._read()  # what it died of may be there to be read
        answer = self._read()
        self._process.send_signal(signal.SIGSTOP)
        return answer

    def stop(self) -> dict[str, Any]:
        """End the worker in order; gives what memory it took.

        Raises:
            WorkerError: It ended before.
        """
        answer = self.ask({"stop": True})
        self.end()
        return answer

    def end(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None and not stream.closed:
                try:
                    stream.close()
                except BrokenPipeError:  # what was written last had nobody to read it
                    continue

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": f"it ended; {self._log} says why"}
        if "error" in answer:
            message = f"{self.name}: {answer['error']}"
            raise WorkerError(message)
        return answer
