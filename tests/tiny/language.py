"""A tiny random causal language model with a tokenizer of its own, like a checkpoint."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LAYERS, HEADS, KV_HEADS, HEAD_DIM, HIDDEN_SIZE, POSITIONS, VOCAB_SIZE = 2, 4, 2, 16, 32, 128, 320
END = "<|end|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
GENERATION_CONFIG = {"eos_token_id": 0, "do_sample": False}

LEFTOVER = {
    "truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
    "padding": {"strategy": {"Fixed": 8}, "direction": "Left", "pad_to_multiple_of": None}
    | {"pad_id": 0, "pad_type_id": 0, "pad_token": "<unk>"},
}
"""What `tokenizer.json` stores of the call that it was last used in."""


def write_tiny_language(folder: Path, model_type: str = "llama", **config: Any) -> None:
    """Write a random network with grouped-query attention, or of another type, and its tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    sizes = {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": HIDDEN_SIZE,
        "intermediate_size": 48,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "max_position_embeddings": POSITIONS,
        "bos_token_id": None,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }
    if model_type not in {"gpt2", "opt", "gpt_neox", "gptj", "codegen", "bloom", "falcon"}:
        sizes |= {"num_key_value_heads": KV_HEADS}
        if model_type != "stablelm":  # its heads share the hidden size
            sizes |= {"head_dim": HEAD_DIM}
    network = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **sizes | config))
    network.save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps(GENERATION_CONFIG))
    write_tokenizer(folder)


def write_tokenizer(folder: Path) -> None:
    """Write a byte-level BPE tokenizer with a chat template: it encodes any text and decodes any tokens."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=[END, "<|user|>", "<|assistant|>", "<|system|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the oil price rose after the meeting of the ministers of the oil states"], trainer)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, chat_template=CHAT_TEMPLATE)
    wrapped.save_pretrained(folder)
