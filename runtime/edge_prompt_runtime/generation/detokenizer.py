r"""From tokens to pieces of text that never break a character.

A decoder may need several tokens for one character, and what a token decodes to may depend on the one before it (a
leading space, a `##`). So each piece is what the latest tokens add when they are decoded together with those before
them, and text that ends with U+FFFD waits: it may be a character whose bytes are not all there yet.

`tokenizers.decoders.DecodeStream` works in the same way, but raises where bytes turn out to be malformed and cannot
be asked for what is left at the end.
"""

from __future__ import annotations

from typing import Protocol

REPLACEMENT = "\ufffd"
"""What decoders give for bytes that are no character."""


class Decoder(Protocol):
    """What makes text of tokens: a `tokenizers.Tokenizer`."""

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:  # noqa: FBT001, FBT002 - tokenizers' own
        """The text of `ids`; ids beyond the vocabulary have none."""


class Pieces:
    """The text of one row, as it becomes certain.

    The pieces together are `decoder.decode(tokens)`. There is one exception, of malformed bytes: a decoder with byte
    fallback gives U+FFFD for a whole run of byte tokens if the last of them are malformed; characters of that run that
    were whole, and given already, stay here.

    Args:
        decoder: The bundle's tokenizer. Only its `decode` is used, which any number of threads may call.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._before: list[int] = []  # the tokens of the last piece, the context that later ones are decoded in
        self._held: list[int] = []
        self._given = 0  # characters of the text of `before` and `held` that were given

    def push(self, token: int) -> str:
        """The text that is certain with `token`; empty if none is."""
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
        """What is left at the end: U+FFFD for bytes that have become no character."""
        piece = self._text()[self._given :]
        self._before, self._held, self._given = [], [], 0
        return piece

    def _text(self) -> str:
        return self._decoder.decode(self._before + self._held, skip_special_tokens=True)
