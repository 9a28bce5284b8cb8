from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_prompt_runtime.generation.stopping import StopStrings

LETTERS = "ab\u00e9"
texts = st.text(LETTERS, max_size=30)
stop_lists = st.lists(st.text(LETTERS, min_size=1, max_size=5), max_size=4)


def whole(text: str, stops: list[str]) -> tuple[str, str | None]:
    """The definition: take the shortest beginning that ends with a stop string, and remove the longest such string."""
    for end in range(len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            stop = max(found, key=len)
            return text[: end - len(stop)], stop
    return text, None


def in_pieces(pieces: list[str], stops: list[str]) -> tuple[list[str], str | None]:
    stopping = StopStrings(stops)
    given_out = [stopping.push(piece) for piece in pieces]
    return [*given_out, stopping.flush()], stopping.found


@given(texts, stop_lists, st.lists(st.integers(0, 30), max_size=8))
def test_however_a_text_is_split_it_ends_at_the_same_place(text: str, stops: list[str], cuts: list[int]) -> None:
    places = sorted({0, len(text), *(min(cut, len(text)) for cut in cuts)})
    pieces = [text[start:end] for start, end in pairwise(places)]
    given_out, found = in_pieces(pieces, stops)
    assert ("".join(given_out), found) == whole(text, stops)


@given(texts, stop_lists)
def test_no_more_waits_than_may_begin_a_stop_string(text: str, stops: list[str]) -> None:
    stopping = StopStrings(stops)
    given_out = ""
    for end, letter in enumerate(text, 1):
        given_out += stopping.push(letter)
        waiting = text[len(given_out) : end]
        if stopping.found is not None:
            break
        assert not waiting or any(stop.startswith(waiting) and stop != waiting for stop in stops)


def test_text_waits_until_it_is_decided() -> None:
    given_out, found = in_pieces(["Hello <", "|en", "x <|", "end|> more", "never"], ["<|end|>"])
    assert given_out == ["Hello ", "", "<|enx ", "", "", ""]
    assert found == "<|end|>"


@pytest.mark.parametrize("split", [["abcd"], list("abcd"), ["ab", "cd"]])
def test_the_stop_string_that_is_complete_first_counts(split: list[str]) -> None:
    given_out, found = in_pieces(split, ["abcd", "bc"])
    assert ("".join(given_out), found) == ("a", "bc")


def test_without_stop_strings_nothing_waits() -> None:
    given_out, found = in_pieces(["a", "b"], [])
    assert (given_out, found) == (["a", "b", ""], None)
