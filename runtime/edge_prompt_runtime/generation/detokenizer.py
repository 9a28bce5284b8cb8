r"""From tokens to pieces of text that never split a character.

One character may consist of several tokens, and the text of a token may depend on the token before it (a leading
space, a `##`). So each piece is the text that the latest tokens add when they are decoded together with the tokens
before them. Text that ends with U+FFFD is held back, because the remaining bytes of a character may follow.

`tokenizers.decoders.DecodeStream` works in the same way, but it raises on malformed bytes and cannot return the text
that is left at the end.
"""

from __future__ import annotations

from typing import Protocol

REPLACEMENT = "\ufffd"
"""What decoders return for bytes that do not form a character."""


class Decoder(Protocol):
    """Turns tokens into text: a `tokenizers.Tokenizer`."""

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:  # noqa: FBT001, FBT002 - tokenizers' own
        """Return the text of `ids`; ids outside the vocabulary have no text."""


class StreamDecoder:
    """The text of one row, released piece by piece once it can no longer change.

    The pieces together are `decoder.decode(tokens)`, with one exception for malformed bytes: a decoder with byte
    fallback returns U+FFFD for a whole run of byte tokens if the last of them are malformed, while complete characters
    of that run that were already returned stay as they are.

    Args:
        decoder: The bundle's tokenizer. Only its thread-safe method `decode` is used.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._before: list[int] = []  # the tokens of the last piece, the context in which later ones are decoded
        self._held: list[int] = []
        self._given = 0  # characters of the text of `before` and `held` that were returned

    def push(self, token: int) -> str:
        """Add `token` and return the text that is now complete; empty if there is none."""
        self._held.append(token)
        text = self._text()
        certain = text.rstrip(REPLACEMENT)
        if len(certain) <= self._given:
            return ""
        piece = certain[self._given :]
        if len(certain) < len(text):
            self._given = len(certain)
        else:
            self._before, self._held = self._held, []
            self._given = len(self._text())
        return piece

    def flush(self) -> str:
        """Return the remaining text at the end: U+FFFD for bytes that do not form a character."""
        piece = self._text()[self._given :]
        self._before, self._held, self._given = [], [], 0
        return piece

    def _text(self) -> str:
        return self._decoder.decode(self._before + self._held, skip_special_tokens=True)
