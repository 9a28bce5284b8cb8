"""Messages of a chat, checked and rebuilt of plain values: a template sees nothing that has methods of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from edge_prompt.base.errors import InputError

Message = Mapping[str, Any]
"""`{"role": "user", "content": "…"}`; more fields pass on to the template as they are."""

MAX_DEPTH = 32
"""Of values in values: what a caller gives for tools is some six deep."""

_WANTED = 'messages such as {"role": "user", "content": "…"}'


def plain_messages(messages: Any) -> list[dict[str, Any]]:
    """`messages`, rebuilt of plain values; fields that are None are left out, as transformers does.

    Raises:
        InputError: They are no list of messages, it is empty, or a message lacks role or content.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str | bytes | bytearray):
        _refuse(f"{type(messages).__name__} for a chat")
    if not messages:
        _refuse("a chat without messages")
    return [_message(message, f"message {place}") for place, message in enumerate(messages)]


def plain_value(value: Any, where: str, depth: int = 0) -> Any:
    """`value`, rebuilt of None, strings, numbers, lists, tuples and dictionaries.

    Raises:
        InputError: There is something else in it, it is nested without end, or a string is no Unicode.
    """
    if depth > MAX_DEPTH:
        _refuse(f"{where} is nested more than {MAX_DEPTH} deep")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, where)
    for kind in (int, float):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, Mapping):
        return {_key(key, where): plain_value(item, f"{where}: {key}", depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([plain_value(item, where, depth + 1) for item in value])
    return _refuse(f"{where} is {type(value).__name__}")


def _message(message: Any, where: str) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        _refuse(f"{where} is {type(message).__name__}")
    for name in ("role", "content"):
        if not isinstance(message.get(name), str):
            state = f"{name!r} is {type(message[name]).__name__}" if name in message else f"no {name!r}"
            _refuse(f"{where}: {state}")
    return {name: value for name, value in plain_value(message, where).items() if value is not None}


def _key(key: Any, where: str) -> str:
    if not isinstance(key, str):
        _refuse(f"{where} has the key {str(key)[:40]}, no string")
    return _text(key, where)


def _text(value: str, where: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:  # halves of surrogate pairs
        _refuse(f"{where} is no Unicode")
    return str.__str__(value)


def _refuse(found: str) -> NoReturn:
    raise InputError(found=found, wanted=_WANTED, remedy="correct the chat")
