"""What a chat template may cost, counted while it runs.

jinja2's sandbox keeps a template from reaching out, and bounds `range`. It does not keep one from looping in loops, or
from doubling a text forty times. So every round of a loop and every call is a step, and all that is made of texts and
lists is counted before it is made, as far as it can be told, or else after. This is a bound on what a broken or
malicious template takes, of some seconds and some hundred megabytes, not an exact account.
"""

from __future__ import annotations

import re
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, Sized, ValuesView
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

MAX_STEPS = 200_000
"""Rounds of loops, calls and filters; a chat of a thousand messages takes some ten thousand."""

MAX_CHARACTERS = 32 << 20
"""Of all texts that are made on the way and put out."""

ITEM = 16
"""What an item of a list that is made counts as, in characters."""

_NESTED = 64
"""What a list or dictionary counts as when it is measured: to look into it takes as long as to write so much."""

_MAX_INTEGER_BITS = 10_000
_WIDTH = re.compile(r"\d+|\*")
_CONVERSION = re.compile(r"%[^%A-Za-z]*")
_FIELD = re.compile(r"\{[^{}]*(\{)?")


class CostError(ValueError):
    """A template takes too long or makes too much."""


@dataclass
class Budget:
    """What one rendering has left."""

    steps: int = MAX_STEPS
    characters: int = MAX_CHARACTERS

    def step(self, count: int = 1) -> None:
        """Count steps."""
        self.steps -= count
        if self.steps < 0:
            raise CostError(f"it takes more than {MAX_STEPS} steps")

    def look(self, value: Any) -> None:
        """Count what takes a while because `value` is long."""
        if isinstance(value, str | Sized):
            self.step(len(value) // (1024 if isinstance(value, str) else 64))

    def make(self, characters: int) -> None:
        """Count what is made."""
        self.characters -= characters
        if self.characters < 0:
            raise CostError(f"it makes more than {MAX_CHARACTERS} characters")


_BUDGET: ContextVar[Budget] = ContextVar("budget of a chat template")


def start_budget() -> None:
    """A rendering begins in this thread."""
    _BUDGET.set(Budget())


def budget() -> Budget:
    """What the rendering in this thread has left; all, while a template is compiled."""
    found = _BUDGET.get(None)
    return Budget() if found is None else found


class Rounds:
    """What a loop goes over, each round counted as a step."""

    def __init__(self, items: Any) -> None:
        self._items = items

    def __iter__(self) -> Iterator[Any]:
        """Count round by round."""
        left = budget()
        for item in self._items:
            left.step()
            yield item

    def __len__(self) -> int:
        """As of the items; TypeError where they have none."""
        return len(self._items)


def size_of(value: Any, parts: Iterable[Any] = ()) -> int:
    """About how many characters `value` and `parts` are as text, shared parts counted wherever they stand.

    Counting ends as soon as it exceeds what is left, so a few lists in lists in lists cannot make it endless.
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
    """`value`, counted: a text by its characters, a list by its items."""
    if isinstance(value, str):
        budget().make(len(value))
    elif isinstance(value, Sized) and not isinstance(value, Rounds | range):
        budget().make(len(value) * ITEM)
    return value


def require_widths(pattern: str, *, fields: bool) -> None:
    """Count the widths in a pattern of `%` or, with `fields`, of `str.format`; widths from outside are refused."""
    for match in (_FIELD if fields else _CONVERSION).finditer(pattern):
        if match.lastindex:
            raise CostError("it formats with a width from outside")
        specification = match.group().partition(":")[2] if fields else match.group()
        for width in _WIDTH.findall(specification):
            if width == "*" and not fields:
                raise CostError("it formats with a width from outside")
            budget().make(int(width[:10]) if width != "*" else 0)


def require_product(left: Any, right: Any) -> None:
    """Count a text or list times a number, or numbers of many digits."""
    for repeated, times in ((left, right), (right, left)):
        if isinstance(times, int) and isinstance(repeated, str | list | tuple):
            budget().make(len(repeated) * max(0, times) * (1 if isinstance(repeated, str) else ITEM))
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > _MAX_INTEGER_BITS:
        raise CostError("it multiplies numbers of too many digits")


def require_power(left: Any, right: Any) -> None:
    """Refuse powers of many digits."""
    if isinstance(left, int) and isinstance(right, int) and left.bit_length() * abs(right) > _MAX_INTEGER_BITS:
        raise CostError("it makes a number of too many digits")


def _attributes(value: Any) -> list[Any]:
    """What a `namespace` of a template holds, which is shown with it."""
    if type(value).__name__ != "TemplateNamespace":
        return []
    return list(object.__getattribute__(value, "_Namespace__attrs").values())
