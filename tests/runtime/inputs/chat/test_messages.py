from __future__ import annotations

from typing import Any

import pytest

from edge_prompt.base.errors import InputError
from edge_prompt_runtime.inputs.chat.messages import MAX_DEPTH, plain_messages

HELLO = {"role": "user", "content": "hello"}


class Loud(str):
    """A subclass of `str` with a method of its own."""

    __slots__ = ()

    def shout(self) -> str:
        return self.upper()


@pytest.mark.parametrize(
    ("messages", "found"),
    [
        ([], "the chat has no messages"),
        ("hello", "the chat is of type str"),
        ({"role": "user"}, "the chat is of type dict"),
        (None, "the chat is of type NoneType"),
        ([HELLO, "hello"], "message 1 is of type str"),
        ([{"role": "user"}], "message 0: 'content' is missing"),
        ([{"content": "x"}], "message 0: 'role' is missing"),
        ([HELLO, {"role": 3, "content": "x"}], "message 1: 'role' is of type int"),
        ([{"role": "user", "content": None}], "message 0: 'content' is of type NoneType"),
        ([{"role": "user", "content": [{"type": "text", "text": "x"}]}], "message 0: 'content' is of type list"),
        ([{"role": "user", "content": "\ud800"}], "message 0: content is not valid Unicode"),
        ([{**HELLO, "image": object()}], "message 0: image is of type object"),
        ([{"role": "user", "content": "x", 3: "x"}], "message 0 has the key 3, which is not a string"),
    ],
)
def test_what_is_no_chat_is_refused_in_one_sentence(messages: Any, found: str) -> None:
    with pytest.raises(InputError) as caught:
        plain_messages(messages)
    assert caught.value.found == found


def test_messages_without_end_are_refused() -> None:
    endless: dict[str, Any] = {**HELLO}
    endless["more"] = endless
    with pytest.raises(InputError, match=f"nested more than {MAX_DEPTH} levels deep"):
        plain_messages([endless])


def test_messages_become_plain_values_of_their_own() -> None:
    given = ({"role": Loud("user"), "content": Loud("x"), "name": None, "calls": ({"a": [1, 2.5, True, None]},)},)
    plain = plain_messages(given)
    assert plain == [{"role": "user", "content": "x", "calls": ({"a": [1, 2.5, True, None]},)}]
    assert type(plain[0]["content"]) is str
    assert type(plain[0]["calls"][0]["a"][2]) is bool
