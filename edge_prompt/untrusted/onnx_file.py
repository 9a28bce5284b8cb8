"""Checks of an untrusted ONNX file before an engine opens it: only known operators, and weights only in known files.

An ONNX file is a protobuf message (https://protobuf.dev/programming-guides/encoding/). This module walks through its
bytes field by field: it checks every length, skips the weights, and builds no objects. Not the `onnx` package, because
devices do not install it, and it reads the weights into memory before anything can be checked.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import NoReturn

from edge_prompt.base.errors import ManifestError
from edge_prompt.storage.files import open_regular_file

MAX_DEPTH = 16
"""The deepest nesting of graphs in attributes of nodes. protobuf's own reader supports about ten levels."""

MOST_FIELDS = 1 << 22
"""The most fields in all messages together, which bounds the time. A language model with 30 layers has 50,000."""

MOST_TEXT_BYTES = 512
"""The longest name or domain of an operator, or key or value that locates external weights."""

STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
"""The domains of the operators that all engines define alike."""

MICROSOFT_OPERATORS = frozenset(
    {
        "BiasGelu",
        "FastGelu",
        "GatherBlockQuantized",
        "Gelu",
        "GroupQueryAttention",
        "MatMulNBits",
        "RotaryEmbedding",
        "SkipLayerNormalization",
        "SkipSimplifiedLayerNormalization",
    }
)
"""The operators of ONNX Runtime's own domain `com.microsoft` that export writes. Others in that domain open files."""

_MICROSOFT = "com.microsoft"
_DATA_LOCATION = 14
_OFFSETS = ("offset", "length")
_EXTERNAL_KEYS = frozenset({"location", "checksum", *_OFFSETS})

_INSIDE: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
    "entry": {},
}
"""The messages inside each message, by field number, as defined in `onnx.proto`."""

_TEXTS: Mapping[str, Mapping[int, str]] = {
    "node": {4: "operator", 7: "domain"},
    "entry": {1: "key", 2: "value"},
}
"""The strings of each message that are checked."""


def require_known_onnx(path: Path, file: str, sizes: Mapping[str, int]) -> None:
    """Check that an ONNX file contains only operators that export writes, and refers only to its own weight files.

    Args:
        path: The file.
        file: Its name in the bundle.
        sizes: The size in bytes of each file of the graph, by its name in the bundle.

    Raises:
        ManifestError: It is malformed, or fails a check.
    """
    with open_regular_file(path) as stream:
        try:
            content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:  # an empty file cannot be mapped
            _refuse_onnx(str(path), "an empty file", "an ONNX model")
        with content:
            require_known_model(content, str(path), file, sizes)


def require_known_model(content: bytes | mmap.mmap, where: str, file: str, sizes: Mapping[str, int]) -> None:
    """Like `require_known_onnx`, for the bytes of a file; `where` names it in error messages."""
    _Walk(content, where, PurePosixPath(file).parent, sizes).message("model", 0, len(content), 0)


@dataclass(frozen=True)
class _Walk:
    """A pass over one file.

    Attributes:
        content: Its bytes.
        where: Its name, for error messages.
        folder: Its folder in the bundle, to which the paths in the file are relative.
        sizes: The sizes of the files that it may refer to.
        left: The number of fields that may still follow.
    """

    content: bytes | mmap.mmap
    where: str
    folder: PurePosixPath
    sizes: Mapping[str, int]
    left: list[int] = field(default_factory=lambda: [MOST_FIELDS])

    def message(self, kind: str, start: int, end: int, depth: int) -> dict[str, str]:
        """Walk through a message and those inside it, and return the strings that are checked."""
        if depth > MAX_DEPTH:
            _refuse_onnx(self.where, f"graphs nested more than {MAX_DEPTH} deep", "a model as export writes it")
        inside, named = _INSIDE[kind], _TEXTS.get(kind, {})
        texts: dict[str, str] = {}
        external: dict[str, str] = {}
        elsewhere = False  # a tensor that was moved into the file may still name its old location
        for number, first, last in self.fields(start, end):
            if number == _DATA_LOCATION:
                elsewhere = elsewhere or first != last
            elif number in named:
                texts[named[number]] = self.text(first, last)
            elif number in inside:
                found = self.message(inside[number], first, last, depth + (inside[number] == "graph"))
                if inside[number] == "entry":
                    self.add_entry(external, found)
        if kind == "node":
            self.require_known_operator(texts.get("domain", ""), texts.get("operator", ""))
        elif kind == "tensor" and elsewhere:
            self.require_known_place(external)
        return texts

    def fields(self, place: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Yield the number, start and end of each length-delimited field, and skip the others.

        The field `data_location` is an integer: an empty span means 0, data inside the tensor.
        """
        content, left = self.content, self.left
        while place < end:
            left[0] -= 1
            tag, place = (content[place], place + 1) if content[place] < 128 else self.varint(place, end, 5)
            wire = tag & 7
            if wire == 2:
                short = place < end and content[place] < 128
                length, start = (content[place], place + 1) if short else self.varint(place, end, 5)
                place = start + length
            elif wire == 0:
                start = place
                value, place = self.varint(place, end, 10)
            else:
                place += {1: 8, 5: 4}.get(wire, end + 1)
            if place > end or not 8 <= tag < 2**32 or left[0] < 0:
                self.refuse_malformed()
            if wire == 2:
                yield tag >> 3, start, place
            elif wire == 0 and tag >> 3 == _DATA_LOCATION:
                yield _DATA_LOCATION, start, place if value else start

    def varint(self, place: int, end: int, most_bytes: int) -> tuple[int, int]:
        """Return the number that starts at `place`, and the position after it."""
        value, index, found = 0, 0, self.content[place : min(end, place + most_bytes)]
        while index < len(found) and found[index] > 127:
            value |= (found[index] & 127) << 7 * index
            index += 1
        if index == len(found):
            self.refuse_malformed()
        return value | found[index] << 7 * index, place + index + 1

    def text(self, start: int, end: int) -> str:
        """Return a string of bounded length."""
        if end - start > MOST_TEXT_BYTES:
            _refuse_onnx(self.where, f"a name of {end - start} bytes", f"at most {MOST_TEXT_BYTES}")
        return self.content[start:end].decode("utf-8", "replace")

    def add_entry(self, external: dict[str, str], entry: Mapping[str, str]) -> None:
        """Add a key and its value to the description of a tensor's external data."""
        key = entry.get("key", "")
        if key not in _EXTERNAL_KEYS or key in external:
            _refuse_onnx(
                self.where,
                f"external data with the key {key[:40]!r}",
                f"{', '.join(sorted(_EXTERNAL_KEYS))}, each once",
            )
        external[key] = entry.get("value", "")

    def require_known_operator(self, domain: str, operator: str) -> None:
        """Refuse a custom operator, which is third-party code, or one that export does not write."""
        if domain not in STANDARD_DOMAINS and not (domain == _MICROSOFT and operator in MICROSOFT_OPERATORS):
            _refuse_onnx(
                self.where, f"the operator {operator[:80]!r} of {domain[:80]!r}", "operators that export writes"
            )

    def require_known_place(self, external: Mapping[str, str]) -> None:
        """Refuse weights in a file that the manifest does not list for this graph, or beyond the end of the file."""
        location = external.get("location", "")
        name = str(self.folder / location)
        if name not in self.sizes or not location:
            _refuse_onnx(self.where, f"weights in {location[:200]!r}", "files that the manifest lists for this graph")
        numbers = [external.get(key, "0") for key in _OFFSETS]
        if not all(number.isascii() and number.isdecimal() and len(number) < 20 for number in numbers):
            _refuse_onnx(self.where, f"weights at {' and '.join(numbers)[:80]!r}", "an offset and a length in bytes")
        if sum(map(int, numbers)) > self.sizes[name]:
            _refuse_onnx(
                self.where, f"weights at {numbers[0]} of {location!r}", f"weights within its {self.sizes[name]} bytes"
            )

    def refuse_malformed(self) -> NoReturn:
        """Refuse content that is not a protobuf message, is ambiguous, or is too long."""
        _refuse_onnx(self.where, "a malformed ONNX file", "an ONNX model")


def _refuse_onnx(where: str, found: str, wanted: str) -> NoReturn:
    raise ManifestError(
        found=f"{where}: {found}",
        wanted=wanted,
        remedy="do not use this bundle, or export the backbone yourself",
    )
