"""The bundle's own `tokenizer.json`: where it is, how it is read, and which texts it cannot read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edge_prompt.base.errors import InputError, ManifestError
from edge_prompt.formats.bundle import TOKENIZER_NAME, Bundle

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def tokenizer_path(bundle: Bundle) -> Path:
    """Return the path of the bundle's tokenizer.

    Raises:
        InputError: The bundle has no tokenizer.
        ManifestError: The tokenizer is altered.
    """
    path = bundle.file(TOKENIZER_NAME)
    if path is None:
        raise InputError(
            found=f"{bundle.folder} has no {TOKENIZER_NAME}",
            wanted="tokens instead of texts",
            remedy="tokenise the texts yourself and pass their token ids",
        )
    return path


def read_tokenizer(path: Path) -> Tokenizer:
    """Read the tokenizer at `path`, without the truncation and the padding that it was last used with.

    The file stores both, but they belong to a call, as in transformers.

    Raises:
        ManifestError: The file cannot be read.
    """
    from tokenizers import Tokenizer  # noqa: PLC0415 - only requests with texts need it

    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise ManifestError(
            found=f"{path} cannot be read ({error})",
            wanted="a tokenizer file of the tokenizers library",
            remedy="export the backbone again",
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def tokens_with_bos(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the tokens of a text with the tokenizer's beginning-of-text token, which is not added twice.

    A template may already contain that token, as chat templates do.
    """
    plain: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    whole: list[int] = tokenizer.encode(text).ids
    return plain if plain and whole[:1] == plain[:1] else whole
