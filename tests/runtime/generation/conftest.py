"""Tokenizers of every type, and a tiny random language model with its vocabulary."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

TEXTS = [
    "The quick brown fox jumps over the lazy dog, doesn't it? It's done; we're off.",
    "Grüße aus München \u2013 für 5 €! Ça va très bien, señor.",
    "日本語のテキスト。東京は晴れ。",
    "emoji 😀 and 👩‍👩‍👧 families\n\nnew lines\tand tabs",
]
SPECIAL = "<|end|>"


def byte_level() -> Tokenizer:
    """As in GPT-2, Llama 3, Qwen and SmolLM2: a token is a few bytes, and rare characters take several."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=[SPECIAL],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def byte_fallback() -> Tokenizer:
    """As in Llama 2 and Gemma: words begin with a space, and unknown characters become bytes."""
    tokens = [SPECIAL, "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += ["▁", "▁the", "▁fox", "fox", "es", "▁don", "'", "t", ",", ".", "a", "é", "\u2581\u2581"]
    merges: list[tuple[str, str]] = []
    model = models.BPE({token: place for place, token in enumerate(tokens)}, merges, byte_fallback=True, fuse_unk=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([SPECIAL, "<unk>"])
    return tokenizer


def metaspace() -> Tokenizer:
    """As in T5 and XLM-RoBERTa: a unigram model over words that begin with a space."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=220, special_tokens=[SPECIAL, "<unk>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def word_piece() -> Tokenizer:
    """As in BERT: parts of words begin with ##, and spaces before punctuation are removed."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=220, special_tokens=["[UNK]", SPECIAL], show_progress=False)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def word_ends() -> Tokenizer:
    """As in the first GPT: the last part of a word has an end marker, which the last token of a text loses."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.BPEDecoder()
    trainer = trainers.BpeTrainer(
        vocab_size=220, special_tokens=["<unk>", SPECIAL], end_of_word_suffix="</w>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


TOKENIZERS: dict[str, Callable[[], Tokenizer]] = {
    made.__name__: made for made in (byte_level, byte_fallback, metaspace, word_piece, word_ends)
}


@pytest.fixture(scope="session", params=TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    """Each tokenizer, with an added special token."""
    made = TOKENIZERS[request.param]()
    made.add_special_tokens([AddedToken(SPECIAL, special=True)])
    return made


@pytest.fixture(scope="session")
def bytes_tokenizer() -> Tokenizer:
    """The byte-level tokenizer, for a language model with its vocabulary."""
    return byte_level()
