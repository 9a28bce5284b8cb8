"""The decorator that counts the calls of a runtime, separate from the recorder so that it imports nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

if TYPE_CHECKING:
    from edge_prompt_runtime.metrics.recorder import Recorder


class Recorded(Protocol):
    """An object with a recorder."""

    recorder: Recorder


Method = TypeVar("Method", bound=Callable[..., Any])


def recorded(method: Method) -> Method:
    """Decorate a method of a `Recorded` so that every call is counted."""
    name = method.__name__

    @wraps(method)
    def counted(self: Recorded, *args: Any, **kwargs: Any) -> Any:
        recorder = self.recorder
        call = recorder.begin(name)
        try:
            answer = method(self, *args, **kwargs)
        except BaseException as error:
            recorder.end(call, error)
            raise
        if not call.streams:
            recorder.end(call)
        return answer

    return cast("Method", counted)
