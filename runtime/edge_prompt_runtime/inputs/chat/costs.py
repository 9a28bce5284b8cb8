"""Costs of filters and string methods whose output can be larger than their input, counted before they run."""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import Any

from edge_prompt_runtime.inputs.chat.bounds import ITEM, CostError, budget, require_widths, size_of

Arguments = tuple[Any, ...]
Named = dict[str, Any]

MAX_INDENT = 64
"""Maximum indent of formatted JSON."""


def count_filter(name: str, value: Any, arguments: Arguments, named: Named) -> None:
    """Count the cost of the filter `name` on `value`: the size of its input, if it creates text, and of its output."""
    budget().step()
    budget().look(value)
    if name not in _NO_TEXT and size_of(value, (*arguments, *named.values())) > budget().characters:
        budget().make(budget().characters + 1)
    if name in _COSTS:
        _COSTS[name](value, arguments, named)


def count_method(name: str, value: str, arguments: Arguments, named: Named) -> None:
    """Count the cost of calling the method `name` of the string `value`."""
    budget().look(value)
    if name in _METHODS:
        _METHODS[name](value, arguments, named)


def _wide(_value: Any, arguments: Arguments, named: Named) -> None:
    """Filters that pad to a width or a number of items."""
    budget().make(sum(abs(number) for number in (*arguments, *named.values()) if isinstance(number, int)))


def _replace(value: Any, arguments: Arguments, named: Named) -> None:
    text = str(value)
    old, new = ([str(argument) for argument in (*arguments, *named.values())] + ["", ""])[:2]
    budget().make(len(text) + (text.count(old) if old else len(text) + 1) * len(new))


def _join(value: Any, arguments: Arguments, named: Named) -> None:
    """The filter takes the list and then the separator; the method takes them the other way round."""
    parts = [value, *arguments, *named.values()]
    between = max((len(part) for part in parts if isinstance(part, str)), default=0)
    count = max((len(part) for part in parts if isinstance(part, list | tuple | dict)), default=0)
    budget().make(between * count + size_of(parts))


def _indent(value: Any, arguments: Arguments, named: Named) -> None:
    widths = [len(part) if isinstance(part, str) else int(part) for part in (*arguments, *named.values()) if part]
    budget().make((str(value).count("\n") + 1) * max(widths, default=4))


def _wrap(value: Any, arguments: Arguments, named: Named) -> None:
    longest = max((len(part) for part in (*arguments, *named.values()) if isinstance(part, str)), default=1)
    budget().make(len(str(value)) * longest)


def _json(value: Any, arguments: Arguments, named: Named) -> None:
    for part in (*arguments, *named.values()):
        if not isinstance(part, bool) and (len(part) if isinstance(part, str) else part or 0) > MAX_INDENT:
            raise CostError(f"it formats JSON with an indent of more than {MAX_INDENT}")
    if any(part for part in (*arguments, *named.values())):
        budget().make(size_of(value))


def _pattern(value: Any, arguments: Arguments, named: Named) -> None:
    require_widths(str(value), fields=False)
    budget().make(str(value).count("%") * size_of(arguments, named.values()))


def _split(value: Any, arguments: Arguments, named: Named) -> None:
    given = next((part for part in (*arguments, *named.values()) if isinstance(part, str) and part), None)
    between = string.whitespace if given is None else (given,)
    budget().make(ITEM * sum(value.count(part) for part in between))


def _letters(value: Any, _arguments: Arguments, _named: Named) -> None:
    """A list made of a text has one item per character."""
    budget().make(ITEM * len(value) if isinstance(value, str) else 0)


def _translate(value: Any, arguments: Arguments, _named: Named) -> None:
    budget().make(len(value) * size_of(arguments))


def _tabs(value: Any, arguments: Arguments, named: Named) -> None:
    budget().make(value.count("\t") * max((abs(int(part)) for part in (*arguments, *named.values())), default=8))


_COSTS: dict[str, Callable[[Any, Arguments, Named], None]] = {
    "batch": _wide,
    "center": _wide,
    "format": _pattern,
    "indent": _indent,
    "join": _join,
    "list": _letters,
    "replace": _replace,
    "reverse": _letters,
    "slice": _wide,
    "sort": _letters,
    "tojson": _json,
    "unique": _letters,
    "wordwrap": _wrap,
}

_METHODS: dict[str, Callable[[Any, Arguments, Named], None]] = {
    "center": _wide,
    "expandtabs": _tabs,
    "join": _join,
    "ljust": _wide,
    "replace": _replace,
    "rjust": _wide,
    "rsplit": _split,
    "split": _split,
    "splitlines": _split,
    "translate": _translate,
    "zfill": _wide,
}

_NO_TEXT = frozenset(
    {
        "abs",
        "attr",
        "batch",
        "count",
        "d",
        "default",
        "dictsort",
        "first",
        "float",
        "groupby",
        "int",
        "items",
        "last",
        "length",
        "list",
        "map",
        "max",
        "min",
        "random",
        "reject",
        "rejectattr",
        "reverse",
        "round",
        "select",
        "selectattr",
        "slice",
        "sort",
        "sum",
        "unique",
    }
)
"""Filters that do not convert their input to text; all others may convert whole nested lists."""
