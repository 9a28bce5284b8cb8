"""Records in untrusted JSON: a dataclass declares the fields of an object once, and `read_record` reads them.

Not msgspec or pydantic, because a device would install a compiled package for files of a few kilobytes, and every
message would still have to be rewritten to name the file, what is wanted and the remedy in this package's own errors.

An annotation says what is read: `str`, `int`, `float` or `bool`; a dataclass; `X | None`, which may be missing or null;
`tuple[X, ...]` or `tuple[X, Y]`; `Mapping[str, X]`; and `Annotated[X, …]` with the markers of this module. A default in
a dataclass serves those who construct it; only `OMITTABLE` lets a file leave the field out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import MISSING, dataclass, is_dataclass
from functools import cache, singledispatch
from types import NoneType, UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from edge_prompt.untrusted.json_fields import RESTORE, Fields

T = TypeVar("T", bound=Hashable)

Read = Callable[[Fields, str], Any]
"""Reads the field of this name."""


def read_record(kind: type[T], fields: Fields) -> T:
    """Return the object in `fields` as the dataclass `kind`. Fields that `kind` does not declare are ignored.

    Raises:
        EdgePromptError: A field is missing, has another type or is out of range, or the fields do not fit each other.
            The class is `fields.error`.
    """
    record = kind(**{name: read(fields, name) for name, read in _readers(kind).items()})
    require_consistent(record, fields)
    return record


@singledispatch
def require_consistent(_record: object, _fields: Fields) -> None:
    """Check that the fields of a record, which was read from `fields`, fit each other.

    Register a function for each class that has such checks.
    """


@dataclass(frozen=True)
class Check:
    """A marker: the value must fulfil a condition.

    Attributes:
        accepts: The condition.
        wanted: What the message says is wanted.
        remedy: What the message says to do.
    """

    accepts: Callable[[Any], object]
    wanted: str
    remedy: str = RESTORE

    def around(self, read: Read) -> Read:
        """Return a function that reads and checks."""

        def checked(fields: Fields, name: str) -> Any:
            found = read(fields, name)
            if not self.accepts(found):
                fields.refuse(f"{name!r} is {_shown(found)}", self.wanted, self.remedy)
            return found

        return checked


@dataclass(frozen=True)
class Named:
    """A marker: the field has another name in the file.

    Attributes:
        name: Its name in the file.
    """

    name: str

    def around(self, read: Read) -> Read:
        """Return a function that reads the field of that name."""
        return lambda fields, _name: read(fields, self.name)


@dataclass(frozen=True)
class ReadBy:
    """A marker: the field is read by a function of its own instead of by its annotation.

    Attributes:
        read: Reads and checks it.
    """

    read: Read


OMITTABLE = object()
"""A marker: the field may be missing, null or empty, which all mean the default of the dataclass."""


def count(least: int = 0) -> ReadBy:
    """A marker for an `int` from `least` to 2**31 - 1."""
    return ReadBy(lambda fields, name: fields.size(name, least))


def number(least: float, most: float) -> Check:
    """A marker for a `float` from `least` to `most`, which NaN is not."""
    return Check(lambda found: least <= found <= most, f"a number from {least:g} to {most:g}")


def one_of(choices: Collection[str], remedy: str = RESTORE) -> Check:
    """A marker for one of these strings."""
    return Check(lambda found: found in choices, f"one of {', '.join(choices)}", remedy)


Count = Annotated[int, count()]
Positive = Annotated[int, count(1)]
Sha256 = Annotated[str, ReadBy(Fields.sha256)]
DistinctStrings = Annotated[tuple[str, ...], Check(lambda found: len(set(found)) == len(found), "distinct strings")]


@cache
def _readers(kind: Any) -> dict[str, Read]:
    """The function that reads each field of a dataclass, by name."""
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: _reader_of(field, hints[field.name]) for field in dataclasses.fields(kind)}


def _reader_of(field: dataclasses.Field[Any], hint: Any) -> Read:
    read = _reader(hint)
    if OMITTABLE not in getattr(hint, "__metadata__", ()):
        return read

    def read_or_default(fields: Fields, name: str) -> Any:
        found = None if fields.value.get(name) is None else read(fields, name)
        if found:
            return found
        return field.default if field.default_factory is MISSING else field.default_factory()

    return read_or_default


def _reader(hint: Any) -> Read:
    """The function that reads what an annotation says."""
    if (origin := get_origin(hint)) is not None:
        return _FORMS[origin](*get_args(hint))
    if is_dataclass(hint):
        return _record(hint)
    return lambda fields, name: fields.take(name, hint)


def _record(kind: Any) -> Read:
    return lambda fields, name: read_record(kind, fields.inside(name))


def _marked(hint: Any, *markers: Any) -> Read:
    read = next((marker.read for marker in markers if isinstance(marker, ReadBy)), None) or _reader(hint)
    for marker in markers:
        if isinstance(marker, Check | Named):
            read = marker.around(read)
    return read


def _optional(*hints: Any) -> Read:
    (hint,) = (each for each in hints if each is not NoneType)
    read = _reader(hint)
    return lambda fields, name: None if fields.value.get(name) is None else read(fields, name)


def _mapping(_key: type[str], hint: Any) -> Read:
    if hint is Any:
        return lambda fields, name: fields.take(name, dict)
    read = _reader(hint)

    def read_values(fields: Fields, name: str) -> dict[str, Any]:
        inside = fields.inside(name)
        return {key: read(inside, key) for key in inside.value}

    return read_values


def _tuple(*hints: Any) -> Read:
    if hints[1:] == (...,):
        read = _reader(hints[0])
        return lambda fields, name: _read_each(fields.items(name), read)
    reads = [_reader(hint) for hint in hints]

    def read_fixed(fields: Fields, name: str) -> tuple[Any, ...]:
        items = fields.items(name)
        if len(items.value) != len(reads):
            fields.refuse(f"{name!r} has {len(items.value)} items", f"{len(reads)}")
        return tuple(read(items, key) for read, key in zip(reads, items.value, strict=True))

    return read_fixed


def _read_each(items: Fields, read: Read) -> tuple[Any, ...]:
    return tuple(read(items, key) for key in items.value)


_FORMS: Mapping[Any, Callable[..., Read]] = {
    Annotated: _marked,
    Mapping: _mapping,
    Union: _optional,
    UnionType: _optional,
    tuple: _tuple,
}
"""Makes the function that reads an annotation from its arguments, by the annotation's origin."""


def _shown(found: Any) -> str:
    if isinstance(found, str):
        return repr(found[:80])
    return str(list(found) if isinstance(found, tuple) else found)[:80]
