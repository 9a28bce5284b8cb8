"""One call of a runtime while it runs: what is known about it until it is counted."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from time import perf_counter_ns
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from edge_prompt_runtime.generation.results import Piece


class Named(Protocol):
    """Something that calls are counted by: a task."""

    @property
    def name(self) -> str:
        """Name of the task; empty for the base model."""


class Counter(Protocol):
    """Something that counts calls: a `Recorder`."""

    def count(self, call: Call, error: BaseException | None) -> None:
        """Count a call that has ended, with its error or None."""


class Call:
    """One call, a context manager. Used by one thread at a time.

    Args:
        method: Name of the method.
        counter: Counts the call once, when it has ended.

    Attributes:
        method: Name of the method.
        began_ns: Start of the call, by `perf_counter_ns`.
        tasks: The task of all rows, or of each row, once known.
        rows: Number of rows, once known.
        first_piece_ns: Time from the start to the first piece of text; None if there was no piece.
        tokens: Number of tokens that the call generated.
    """

    __slots__ = ("_counter", "_ended", "_streams", "began_ns", "first_piece_ns", "method", "rows", "tasks", "tokens")

    def __init__(self, method: str, counter: Counter) -> None:
        self.method = method
        self.tasks: Named | Sequence[Named] = ()
        self.rows = 0
        self.first_piece_ns: int | None = None
        self.tokens = 0
        self._counter = counter
        self._streams = self._ended = False
        self.began_ns = perf_counter_ns()

    def __enter__(self) -> Self:
        """Return the call itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the call, unless it ends with its last piece."""
        if error is not None or not self._streams:
            self._end(error)

    def watch(self, pieces: Generator[Piece]) -> Generator[Piece]:
        """Wrap the pieces that the call generates; it ends with the last one instead of its `with` block."""
        self._streams = True
        return self._pieces(pieces)

    def _pieces(self, pieces: Generator[Piece]) -> Generator[Piece]:
        try:
            for piece in pieces:
                if self.first_piece_ns is None:
                    self.first_piece_ns = perf_counter_ns() - self.began_ns
                self.tokens += piece.token is not None
                yield piece
        except GeneratorExit:
            raise  # the caller closed the stream, which is not an error
        except BaseException as error:
            self._end(error)
            raise
        finally:
            pieces.close()
            self._end(None)

    def _end(self, error: BaseException | None) -> None:
        """Count the call; only its first end counts."""
        if not self._ended:
            self._ended = True
            self._counter.count(self, error)
