from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from edge_prompt_runtime.generation.detokenizer import REPLACEMENT, StreamDecoder
from tests.runtime.generation.conftest import SPECIAL, TEXTS, byte_fallback, byte_level

any_text = st.text(max_size=40) | st.lists(st.sampled_from("the fox \n,.'é€日😀"), max_size=40).map("".join)


def pieces_of(tokenizer: Tokenizer, tokens: list[int]) -> list[str]:
    pieces = StreamDecoder(tokenizer)
    return [*(pieces.push(token) for token in tokens), pieces.flush()]


def token_of(tokenizer: Tokenizer, text: str) -> int:
    token = tokenizer.token_to_id(text)
    assert token is not None
    return token


def byte_tokens(tokenizer: Tokenizer, data: bytes) -> list[int]:
    """One token per byte, from the tokenizer with byte fallback."""
    return [token_of(tokenizer, f"<0x{byte:02X}>") for byte in data]


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pieces_of_a_text_are_its_decoding_and_break_no_character(tokenizer: Tokenizer, data: st.DataObject) -> None:
    text = data.draw(any_text)
    tokens = tokenizer.encode(text, add_special_tokens=False).ids
    pieces = pieces_of(tokenizer, tokens)
    assert "".join(pieces) == tokenizer.decode(tokens)
    assert not any(piece.endswith(REPLACEMENT) for piece in pieces[:-1])


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_pieces_of_any_tokens_are_their_decoding(tokenizer: Tokenizer, data: st.DataObject) -> None:
    size = tokenizer.get_vocab_size()
    malformed_runs = tokenizer.token_to_id("<0x0A>") is not None
    able = [
        token for token in range(size) if not malformed_runs or not str(tokenizer.id_to_token(token)).startswith("<0x")
    ]
    tokens = data.draw(st.lists(st.sampled_from(able) | st.just(token_of(tokenizer, SPECIAL)), max_size=30))
    assert "".join(pieces_of(tokenizer, tokens)) == tokenizer.decode(tokens)


@pytest.mark.parametrize("text", TEXTS)
def test_texts_of_many_languages_come_out_as_they_went_in(text: str) -> None:
    tokenizer = byte_level()
    tokens = tokenizer.encode(text).ids
    assert "".join(pieces_of(tokenizer, tokens)) == text


def test_a_character_waits_for_its_last_byte() -> None:
    tokenizer = byte_fallback()
    tokens = [token_of(tokenizer, "▁the"), *byte_tokens(tokenizer, "😀\n".encode())]
    assert pieces_of(tokenizer, tokens) == ["the", "", "", "", "😀", "\n", ""]


def test_incomplete_characters_are_returned_at_the_end() -> None:
    tokenizer = byte_fallback()
    tokens = [token_of(tokenizer, "a"), *byte_tokens(tokenizer, "😀".encode()[:3])]
    assert pieces_of(tokenizer, tokens) == ["a", "", "", "", 3 * REPLACEMENT]


def test_malformed_bytes_take_no_character_back() -> None:
    """The only difference from decoding at once, which treats the whole run as malformed: its newline is U+FFFD."""
    tokenizer = byte_fallback()
    tokens = [*byte_tokens(tokenizer, b"\n\xf0"), token_of(tokenizer, "a")]
    assert tokenizer.decode(tokens) == 2 * REPLACEMENT + "a"
    assert pieces_of(tokenizer, tokens) == ["\n", "", REPLACEMENT + "a", ""]


@given(st.binary(max_size=20))
def test_any_bytes_give_pieces_and_only_malformed_ones_differ(data: bytes) -> None:
    tokenizer = byte_fallback()
    tokens = byte_tokens(tokenizer, data)
    joined = "".join(pieces_of(tokenizer, tokens))
    try:
        assert joined == data.decode().removeprefix(" ")  # the space before the first word
    except UnicodeDecodeError:
        assert REPLACEMENT in joined or REPLACEMENT not in tokenizer.decode(tokens)


def test_a_blank_between_words_comes_with_the_second() -> None:
    tokenizer = byte_fallback()
    tokens = [token_of(tokenizer, token) for token in ("▁", "▁the", "▁fox", "es", "▁", "▁", ".")]
    assert pieces_of(tokenizer, tokens) == ["", " the", " fox", "es", " ", " ", ".", ""]


def test_special_and_unknown_tokens_have_no_text() -> None:
    tokenizer = byte_level()
    end, beyond = token_of(tokenizer, SPECIAL), tokenizer.get_vocab_size() + 5
    letter = token_of(tokenizer, "x")
    assert pieces_of(tokenizer, [end, letter, beyond, end, letter]) == ["", "x", "", "", "x", ""]
    assert pieces_of(tokenizer, []) == [""]
