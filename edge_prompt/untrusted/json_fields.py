"""Typed access to untrusted JSON objects: every field is checked by name and type."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from edge_prompt.base.errors import AdapterError, CardError, ManifestError, ResultsError

T = TypeVar("T", str, int, float, bool, dict[str, Any], list[Any])

RESTORE = "restore the file or write it again"
"""The remedy for a malformed file."""

NEWER = "install a newer edge-prompt"
"""The remedy for a file of a later version."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Fields:
    """The fields of one JSON object.

    Attributes:
        value: The object.
        where: The file and the path within it, for error messages.
        error: The class of the errors to raise.
    """

    value: Mapping[str, Any]
    where: str
    error: type[ManifestError | CardError | AdapterError | ResultsError]

    def take(self, name: str, kind: type[T]) -> T:
        """Return the field `name`, which must exist and have the type `kind`."""
        if name not in self.value:
            self.refuse(f"no field {name!r}", f"{name!r} as {kind.__name__}")
        found = self.value[name]
        if isinstance(found, bool) is not (kind is bool) or not isinstance(
            found, (int, float) if kind is float else kind
        ):
            self.refuse(f"{name!r} is {type(found).__name__}", f"{name!r} as {kind.__name__}")
        try:
            return kind(found)
        except OverflowError:  # an integer too large for a float
            self.refuse(f"{name!r} is an integer of {len(str(found))} digits", f"{name!r} as {kind.__name__}")

    def optional(self, name: str, kind: type[T]) -> T | None:
        """Return the field `name`, or None if it is missing or null."""
        return None if self.value.get(name) is None else self.take(name, kind)

    def size(self, name: str, least: int = 0) -> int:
        """Return the field `name`, which must be an integer from `least` to 2**31 - 1."""
        count = self.take(name, int)
        if not least <= count < 2**31:
            self.refuse(f"{name!r} is {str(count)[:20]}", f"a count from {least} to 2147483647")
        return count

    def sha256(self, name: str) -> str:
        """Return the field `name`, which must be a SHA-256 in hexadecimal."""
        found = self.take(name, str)
        if not _SHA256.fullmatch(found):
            self.refuse(f"{name!r} is {found[:80]!r}", "a SHA-256 in 64 lower-case hexadecimal digits")
        return found

    def inside(self, name: str) -> Fields:
        """Return the fields of the object in field `name`."""
        return Fields(self.take(name, dict), f"{self.where}: {name}", self.error)

    def items(self, name: str) -> Fields:
        """Return the items of the list in field `name` as fields whose names are `name[0]`, `name[1]` and so on."""
        found = self.take(name, list)
        return Fields({f"{name}[{place}]": item for place, item in enumerate(found)}, self.where, self.error)

    def require_version(self, newest: int) -> None:
        """Check that this code supports the `format_version`."""
        version = self.take("format_version", int)
        if not 1 <= version <= newest:
            self.refuse(f"format version {str(version)[:20]}", f"1 to {newest}", NEWER)

    def refuse(self, found: str, wanted: str, remedy: str = RESTORE) -> NoReturn:
        """Raise an error about this object."""
        raise self.error(found=f"{self.where}: {found}", wanted=wanted, remedy=remedy)
