"""Limits on the time and memory that a chat template may use, enforced while it runs.

jinja2's sandbox isolates a template and limits `range`, but it does not prevent nested loops or doubling a text forty
times. So every iteration of a loop and every call counts as a step. The size of every text and list is counted before
it is created if it can be computed, and afterwards otherwise. This limits a broken or malicious template to a few
seconds and a few hundred megabytes; it is not an exact account.
"""

from __future__ import annotations

import re
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, Sized, ValuesView
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

MAX_STEPS = 200_000
"""Maximum number of loop iterations, calls and filters; a chat of a thousand messages needs about ten thousand."""

MAX_CHARACTERS = 32 << 20
"""Maximum total size of all intermediate and output texts."""

ITEM = 16
"""Cost of an item of a created list, in characters."""

_NESTED = 64
"""Cost of measuring a list or dictionary, in characters: visiting it takes as long as writing this many."""

_MAX_INTEGER_BITS = 10_000
_WIDTH = re.compile(r"\d+|\*")
_CONVERSION = re.compile(r"%[^%A-Za-z]*")
_FIELD = re.compile(r"\{[^{}]*(\{)?")


class CostError(ValueError):
    """A template exceeded its limit of steps or characters."""


@dataclass
class Budget:
    """The steps and characters that one rendering has left."""

    steps: int = MAX_STEPS
    characters: int = MAX_CHARACTERS

    def step(self, count: int = 1) -> None:
        """Count steps."""
        self.steps -= count
        if self.steps < 0:
            raise CostError(f"it needs more than {MAX_STEPS} steps")

    def look(self, value: Any) -> None:
        """Count the steps of reading a long `value`."""
        if isinstance(value, str | Sized):
            self.step(len(value) // (1024 if isinstance(value, str) else 64))

    def make(self, characters: int) -> None:
        """Count characters that are created."""
        self.characters -= characters
        if self.characters < 0:
            raise CostError(f"it creates more than {MAX_CHARACTERS} characters")


_BUDGET: ContextVar[Budget] = ContextVar("budget of a chat template")


def start_budget() -> None:
    """Start the budget of a rendering in this thread."""
    _BUDGET.set(Budget())


def budget() -> Budget:
    """Return the budget of the rendering in this thread, or a full one while a template is being compiled."""
    found = _BUDGET.get(None)
    return Budget() if found is None else found


class Rounds:
    """The items of a loop, which counts each iteration as a step."""

    def __init__(self, items: Any) -> None:
        self._items = items

    def __iter__(self) -> Iterator[Any]:
        """Iterate and count each iteration."""
        left = budget()
        for item in self._items:
            left.step()
            yield item

    def __len__(self) -> int:
        """Return the number of items; raises TypeError if they have no length."""
        return len(self._items)


def size_of(value: Any, parts: Iterable[Any] = ()) -> int:
    """Estimate how many characters `value` and `parts` have as text; shared parts count once per occurrence.

    Counting stops once it exceeds the remaining budget, so deeply nested lists cannot make it endless.
    """
    limit = budget().characters
    size, waiting = 0, [value, *parts]
    while waiting and size <= limit:
        found = waiting.pop()
        if isinstance(found, str):
            size += len(found) + 2
        elif isinstance(found, int):
            size += 1 + found.bit_length() // 3
        elif isinstance(found, Mapping):
            size += _NESTED
            waiting.extend(found.keys())
            waiting.extend(found.values())
        elif isinstance(found, list | tuple | set | frozenset | KeysView | ValuesView | ItemsView):
            size += _NESTED
            waiting.extend(found)
        else:
            size += _NESTED
            waiting.extend(_attributes(found))
    return size


def made(value: Any) -> Any:
    """Count `value`, a text by its characters and a list by its items, and return it."""
    if isinstance(value, str):
        budget().make(len(value))
    elif isinstance(value, Sized) and not isinstance(value, Rounds | range):
        budget().make(len(value) * ITEM)
    return value


def require_widths(pattern: str, *, fields: bool) -> None:
    """Count the widths in a pattern of `%` or, with `fields`, of `str.format`; refuse widths taken from arguments."""
    for match in (_FIELD if fields else _CONVERSION).finditer(pattern):
        if match.lastindex:
            raise CostError("it formats with a width that is an argument")
        specification = match.group().partition(":")[2] if fields else match.group()
        for width in _WIDTH.findall(specification):
            if width == "*" and not fields:
                raise CostError("it formats with a width that is an argument")
            budget().make(int(width[:10]) if width != "*" else 0)


def require_product(left: Any, right: Any) -> None:
    """Count a repeated text or list; refuse products of numbers with too many digits."""
    for repeated, times in ((left, right), (right, left)):
        if isinstance(times, int) and isinstance(repeated, str | list | tuple):
            budget().make(len(repeated) * max(0, times) * (1 if isinstance(repeated, str) else ITEM))
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > _MAX_INTEGER_BITS:
        raise CostError("it multiplies numbers with too many digits")


def require_power(left: Any, right: Any) -> None:
    """Refuse powers with too many digits."""
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() * abs(right) > _MAX_INTEGER_BITS:
        raise CostError("it computes a number with too many digits")


def _attributes(value: Any) -> list[Any]:
    """The fields of a template's `namespace`, which are part of its text."""
    if type(value).__name__ != "TemplateNamespace":
        return []
    return list(object.__getattribute__(value, "_Namespace__attrs").values())
