"""Our own calls must not use what a dependency has deprecated; calls by the dependency or another library do not count.

The module that Python names in a warning does not identify the caller: behind decorators and
`torch.nn.Module.__call__` it is theirs in any case. Therefore the stack is searched past the warning function and past
such machinery.
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
    """A call of this project caused a deprecation warning of a dependency."""


def caller(frame: FrameType | None) -> str:
    """Return the file that called the warning function in `frame`."""
    frame = frame.f_back if frame else None
    while frame is not None and any(part in frame.f_code.co_filename for part in MACHINERY):
        frame = frame.f_back
    return frame.f_code.co_filename if frame else ""


@contextmanager
def our_deprecations_are_errors() -> Iterator[None]:
    """Raise `DeprecatedCallError` where a call of ours causes a deprecation warning, whatever the filters."""
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
