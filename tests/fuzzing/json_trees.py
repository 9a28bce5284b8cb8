"""Mutations of JSON documents that JSON writers would not produce: repeated keys, endless numbers."""

from __future__ import annotations

import json
from random import Random
from typing import Any


class _Raw(str):
    """Text that is written unchanged."""

    __slots__ = ()


class _Pairs(list[tuple[str, Any]]):
    """An object whose keys may repeat."""


_VALUES: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 2, 3, 2**31 - 1, 2**31, 2**53 + 1, 2**63, 2**64, 10**30, 1.5, -0.0, 1e300, "", "x",
    ".", "..", "../x", "/etc/passwd", "a/../../b", "a\0b", "a\nb", "con", "x" * 300, "é", "C:\\x", "~", "model.onnx",
    "0" * 64, "soft", "prefix", "deep", "pixel", "{text}", "{text}{text}", "tanh", [], [0], [1, 1], ["x", "x"],
    _Pairs(),
    _Raw("1e999"), _Raw("-1e999"), _Raw("NaN"), _Raw("Infinity"), _Raw("9" * 5000), _Raw("1e-999999"), _Raw("-"),
    _Raw("[" * 2000 + "]" * 2000), _Raw("[" * 30_000), _Raw('{"a":' * 3000 + "1" + "}" * 3000), _Raw('"\\ud800"'),
    _Raw('"\\u0000"'), _Raw("01"), _Raw("0x1"), _Raw("'a'"), _Raw(""), _Raw("[,]"), _Raw("//"), _Raw("\ufeff1"),
    _Raw("1" * 60 + ".0"), _Raw("2147483648.0"), _Raw("1.0"), _Raw("true1"),
)  # fmt: skip


def mutate_json(content: bytes, random: Random) -> bytes:
    """Replace some nodes of a document by hostile ones, or drop, repeat or move them."""
    try:
        tree = json.loads(content, object_pairs_hook=_Pairs)
    except (ValueError, RecursionError):
        return _mutate_text(content, random)
    if random.random() < 0.1:
        return _mutate_text(content, random)
    root = [tree]
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        places = [*_places(root)]
        holder, place = random.choice(places)
        _change(holder, place, random, places)
    try:
        return _written(root[0]).encode("utf-8", "surrogatepass") if root else b""
    except RecursionError:  # a node was put into itself
        return content


def _places(node: Any) -> list[tuple[list[Any], int]]:
    found: list[tuple[list[Any], int]] = []
    waiting = [node]
    while waiting and len(found) < 500:
        holder = waiting.pop()
        for place, value in enumerate(holder):
            found.append((holder, place))
            inner = value[1] if isinstance(holder, _Pairs) else value
            if isinstance(inner, list):
                waiting.append(inner)
    return found


def _change(holder: list[Any], place: int, random: Random, places: list[tuple[list[Any], int]]) -> None:
    if place >= len(holder):
        return
    if isinstance(holder, _Pairs):
        key, _ = holder[place]
        other, index = random.choice(places)
        chosen = random.randrange(8)
        if chosen == 0:
            del holder[place]
        elif chosen == 1:
            holder.append((key, random.choice(_VALUES)))
        elif chosen == 2:
            holder[place] = (
                random.choice(("", "x", key * 2, "file", "../x", "é", "\0", "__metadata__")),
                holder[place][1],
            )
        elif chosen == 3 and index < len(other):
            found = other[index][1] if isinstance(other, _Pairs) else other[index]
            holder[place] = (key, found if not isinstance(found, list) else json.loads("[]"))
        else:
            holder[place] = (key, random.choice(_VALUES))
    else:
        chosen = random.randrange(5)
        if chosen == 0 and len(holder) > 1:
            del holder[place]
        elif chosen == 1:
            holder.append(holder[place] if not isinstance(holder[place], list) else 1)
        else:
            holder[place] = random.choice(_VALUES)


def _written(node: Any) -> str:
    if isinstance(node, _Raw):
        return str(node)
    if isinstance(node, _Pairs):
        return "{" + ",".join(f"{json.dumps(key)}:{_written(value)}" for key, value in node) + "}"
    if isinstance(node, list):
        return "[" + ",".join(map(_written, node)) + "]"
    return json.dumps(node)


def _mutate_text(content: bytes, random: Random) -> bytes:
    if not content:
        return b"{}"
    start = random.randrange(len(content))
    piece = random.choice(
        (b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\u0000", b"\xff", b"\xed\xa0\x80", b"1", b"-", b"e9")
    )
    end = start + random.choice((0, 1, 1, 4, 40))
    return content[:start] + random.choice((piece, b"")) + content[end:]
