"""Messages of a chat, checked and rebuilt from plain values, so that a template sees no object with its own methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from edge_prompt.base.errors import InputError

Message = Mapping[str, Any]
"""`{"role": "user", "content": "…"}`; further fields are passed to the template unchanged."""

MAX_DEPTH = 32
"""Maximum nesting of values; typical descriptions of tools are nested about six levels deep."""

_WANTED = 'messages such as {"role": "user", "content": "…"}'


def plain_messages(messages: Any) -> list[dict[str, Any]]:
    """Return `messages` rebuilt from plain values; fields that are None are left out, as in transformers.

    Raises:
        InputError: `messages` is not a list of messages or is empty, or a message lacks a role or content.
    """
    if not isinstance(messages, Sequence) or isinstance(messages, str | bytes | bytearray):
        _refuse_message(f"the chat is of type {type(messages).__name__}")
    if not messages:
        _refuse_message("the chat has no messages")
    return [_message(message, f"message {place}") for place, message in enumerate(messages)]


def plain_value(value: Any, where: str, depth: int = 0) -> Any:
    """Return `value` rebuilt from None, strings, numbers, lists, tuples and dictionaries.

    Raises:
        InputError: The value contains another type, is nested too deeply, or has a string that is not valid Unicode.
    """
    if depth > MAX_DEPTH:
        _refuse_message(f"{where} is nested more than {MAX_DEPTH} levels deep")
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
    return _refuse_message(f"{where} is of type {type(value).__name__}")


def _message(message: Any, where: str) -> dict[str, Any]:
    if not isinstance(message, Mapping):
        _refuse_message(f"{where} is of type {type(message).__name__}")
    for name in ("role", "content"):
        if not isinstance(message.get(name), str):
            state = f"{name!r} is of type {type(message[name]).__name__}" if name in message else f"{name!r} is missing"
            _refuse_message(f"{where}: {state}")
    return {name: value for name, value in plain_value(message, where).items() if value is not None}


def _key(key: Any, where: str) -> str:
    if not isinstance(key, str):
        _refuse_message(f"{where} has the key {str(key)[:40]}, which is not a string")
    return _text(key, where)


def _text(value: str, where: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:  # lone surrogates
        _refuse_message(f"{where} is not valid Unicode")
    return str.__str__(value)


def _refuse_message(found: str) -> NoReturn:
    raise InputError(found=found, wanted=_WANTED, remedy="correct the chat")
