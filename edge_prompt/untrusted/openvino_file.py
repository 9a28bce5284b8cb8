"""Checks of an untrusted OpenVINO IR before an engine opens it: only OpenVINO's own operators, and no entities.

An IR is an XML file next to a file of weights. This module checks its bytes without building a tree: expat checks that
it is well-formed, and the depth and the layers are counted. Not `xml.etree` or `defusedxml.ElementTree`, because their
tree takes about fourteen times the memory of the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn
from xml.parsers import expat

import numpy as np

from edge_prompt.base.errors import ManifestError
from edge_prompt.storage.files import read_start

MAX_IR_BYTES = 32 << 20
"""More than any IR needs: that of a language model with 30 layers has 3 MB. Expat keeps every name it reads."""

MAX_DEPTH = 64
"""The deepest nesting of elements; export writes 8 levels."""

_ATTRIBUTES = rb"((?:\s+[\w:.-]+\s*=\s*(?:\"[^\"]*\"|'[^']*'))*)\s*/?>"
_LAYER = re.compile(rb"<layer(?=[\s/>])" + _ATTRIBUTES)
_DATA = re.compile(rb"<data(?=[\s/>])" + _ATTRIBUTES)
_ATTRIBUTE = re.compile(rb"([\w:.-]+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")
_TAG = re.compile(rb"<(/?)[^<>\"'/]*(?:(?:\"[^\"]*\"|'[^']*'|/(?!>))[^<>\"'/]*)*(/?)>")
_PROLOG = re.compile(rb"<\?xml[^<>?]*\?>")

_VERSION = re.compile(rb"opset[1-9][0-9]?")
"""The versions of OpenVINO's own operator sets. Other versions belong to extensions, which are third-party code."""

_PLACE = re.compile(rb"[0-9]{1,18}")

_PLAIN_LAYER = re.compile(rb'<layer id="[0-9]+" name="[^"]*" type="\w+" version="opset[1-9][0-9]?"')
_PLAIN_PLACE = re.compile(rb' offset="([0-9]{1,18})" size="([0-9]{1,18})"')
"""Layers and offsets as OpenVINO writes them. If all have this form, they need not be parsed one by one."""

_BLOCK_BYTES = 1 << 15


def require_known_ir(path: Path, weights_bytes: int) -> None:
    """Check that an IR contains only OpenVINO's own operators, and no weights beyond the end of their file.

    Args:
        path: The file.
        weights_bytes: The size of its weights file; 0 if it has none.

    Raises:
        ManifestError: It is malformed, or fails a check.
    """
    content, _ = read_start(path, MAX_IR_BYTES + 1)
    require_known_net(content, str(path), weights_bytes)


def require_known_net(content: bytes, where: str, weights_bytes: int) -> None:
    """Like `require_known_ir`, for the bytes of a file; `where` names it in error messages."""
    if len(content) > MAX_IR_BYTES:
        _refuse_ir(where, f"more than {MAX_IR_BYTES} bytes", "an OpenVINO IR")
    start = _PROLOG.match(content)
    begin = start.end() if start else 0
    if b"\0" in content:  # UTF-16 contains NUL bytes: expat would see elements that the checks below would miss
        _refuse_ir(where, "NUL bytes, as in UTF-16", "XML in UTF-8")
    if b"<!" in content or content.find(b"<?", begin) >= 0 or (b"path" in content and _names_a_path(content)):
        _refuse_ir(where, "declarations, comments, instructions or paths", "only elements and attributes")
    _require_well_formed(content, where)
    if _depth(content, begin) > MAX_DEPTH:
        _refuse_ir(where, f"elements nested more than {MAX_DEPTH} deep", "an IR as export writes it")
    _require_known_layers(content, where)
    _require_known_places(content, where, weights_bytes)


def _require_known_layers(content: bytes, where: str) -> None:
    """Refuse layers whose operators are not in OpenVINO's own operator sets."""
    layers = content.count(b"<layer") - content.count(b"<layers")
    if sum(1 for _ in _PLAIN_LAYER.finditer(content)) == layers:
        return
    for attributes in _elements(_LAYER, content):
        version = attributes.get(b"version", b"")
        if not _VERSION.fullmatch(version):
            kind = attributes.get(b"type", b"")[:80].decode("utf-8", "replace")
            _refuse_ir(
                where,
                f"the operator {kind!r} of {version[:80].decode('utf-8', 'replace')!r}",
                "operators of OpenVINO's own opsets",
            )


def _require_known_places(content: bytes, where: str, weights_bytes: int) -> None:
    """Refuse constants that start or end beyond the weights."""
    count = farthest = 0
    for found in _PLAIN_PLACE.finditer(content):
        count, farthest = count + 1, max(farthest, int(found[1]) + int(found[2]))
    if count == content.count(b"offset"):
        if farthest > weights_bytes:
            _refuse_ir(where, f"weights up to byte {farthest}", f"weights within the {weights_bytes} bytes of the file")
        return
    for attributes in _elements(_DATA, content):
        if b"offset" in attributes and b"size" in attributes:
            place, size = attributes[b"offset"], attributes[b"size"]
            numbers = _PLACE.fullmatch(place) and _PLACE.fullmatch(size)
            if not numbers or int(place) + int(size) > weights_bytes:
                said = b"weights at %b, of %b bytes" % (place[:40], size[:40])
                _refuse_ir(
                    where, said.decode("utf-8", "replace"), f"weights within the {weights_bytes} bytes of the file"
                )


def _names_a_path(content: bytes) -> bool:
    """Return whether an element is a path: OpenVINO lets the runtime information name another weights file."""
    return re.search(rb"<[\w:.-]*path[\s/>]", content) is not None


def _require_well_formed(content: bytes, where: str) -> None:
    """Refuse content that is not well-formed XML in UTF-8, so that every reader sees the same elements."""
    roots: list[str] = []

    def first(name: str, _attributes: object) -> None:
        roots.append(name)
        parser.StartElementHandler = None

    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = first
    try:
        parser.Parse(content, True)  # noqa: FBT003 - expat takes no keywords
    except expat.ExpatError as error:
        _refuse_ir(where, f"malformed XML ({error})", "an OpenVINO IR")
    if roots != ["net"]:
        _refuse_ir(where, f"an element {roots[0][:40]!r}", "an OpenVINO IR, whose element is 'net'")


def _elements(pattern: re.Pattern[bytes], content: bytes) -> Iterator[dict[bytes, bytes]]:
    """Yield the attributes of each element that `pattern` matches."""
    for found in pattern.finditer(content):
        yield {name: double or single for name, double, single in _ATTRIBUTE.findall(found[1])}


def _depth(content: bytes, begin: int) -> int:
    """Return the deepest nesting of elements in well-formed XML."""
    depth = deepest = 0
    if content.count(b"<", begin) != content.count(b">", begin):  # a text contains a bracket: find the tags one by one
        for found in _TAG.finditer(content, begin):
            depth += -1 if found[1] else 1
            deepest = max(deepest, depth)
            depth -= bool(found[2])
        return deepest
    while (start := content.find(b"<", begin)) >= 0:
        begin = content.find(b">", start + _BLOCK_BYTES) + 1 or len(content)
        block = np.frombuffer(content, np.uint8, begin - start, start)
        opening, closing = np.flatnonzero(block == ord("<")), np.flatnonzero(block == ord(">"))
        steps = np.where(block[opening + 1] == ord("/"), -1, 1)
        steps[block[closing - 1] == ord("/")] = 0  # a self-closing element
        depths = np.cumsum(steps) + depth
        # a self-closing element counts as one more level
        deepest, depth = max(deepest, int(depths.max()) + 1), int(depths[-1])
    return deepest


def _refuse_ir(where: str, found: str, wanted: str) -> NoReturn:
    raise ManifestError(
        found=f"{where}: {found}",
        wanted=wanted,
        remedy="do not use this bundle, or export the backbone yourself",
    )
