"""No call of ours may use what a dependency has deprecated; what its own code or another library does is not ours.

The module that Python names in a warning does not tell who called: behind decorators and `torch.nn.Module.__call__` it
is theirs either way. Here the stack is walked instead, past the function that warns and past such machinery.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from tests.places import ROOT

OURS = tuple(str(ROOT / name) for name in ("edge_prompt", "export", "runtime", "benchmarks", "examples", "tests"))
DEPRECATIONS = (DeprecationWarning, PendingDeprecationWarning, FutureWarning)
MACHINERY = (
    "/functools.py",
    "/contextlib.py",
    "/typing_extensions.py",
    "/torch/nn/modules/module.py",
    "/torch/utils/_contextlib.py",
    "/transformers/utils/",
)


class DeprecatedCallError(AssertionError):
    """A call of this project's own caused a deprecation warning of a dependency."""


def caller(frame: FrameType | None) -> str:
    """The file that called what warns in `frame`."""
    frame = frame.f_back if frame else None
    while frame is not None and any(part in frame.f_code.co_filename for part in MACHINERY):
        frame = frame.f_back
    return frame.f_code.co_filename if frame else ""


@contextmanager
def our_deprecations_are_errors() -> Iterator[None]:
    """Raise `DeprecatedCallError` where a call of ours causes a deprecation warning, whatever filters say."""
    original = warnings.warn

    def warn(message: Any, category: Any = None, stacklevel: int = 1, *arguments: Any, **options: Any) -> None:
        kind = type(message) if isinstance(message, Warning) else category or UserWarning
        if issubclass(kind, DEPRECATIONS):
            file = caller(sys._getframe(1))
            if file.startswith(OURS) and file != __file__:
                raise DeprecatedCallError(f"{file}: {message}")
        original(message, category, stacklevel + 1, *arguments, **options)

    warnings.warn = warn
    try:
        yield
    finally:
        warnings.warn = original
