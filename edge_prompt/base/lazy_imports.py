"""Names of a package that are imported when they are first asked for (PEP 562), so that its import costs little."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping


def lazily(package: str, modules: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """The `__getattr__` and the `__dir__` of a package.

    Args:
        package: Its name.
        modules: The module that has each name.
    """

    def find(name: str) -> object:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found: object = getattr(importlib.import_module(modules[name]), name)
        setattr(sys.modules[package], name, found)  # it is asked for once
        return found

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *modules})

    return find, names
