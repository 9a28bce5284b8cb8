"""Load a text encoder with its head, tokenizer, pooling and maximum number of tokens."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTextEncoding,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)

from edge_prompt.base.errors import BackboneError
from edge_prompt.formats.preprocessing import TextPreprocessing
from edge_prompt_export.backbone.backbone import (
    Checkpoint,
    LoadOptions,
    first_run_errors,
    identity_of,
    loading_errors,
    task_of,
)
from edge_prompt_export.base.library_output import suppress_library_output
from edge_prompt_export.base.private_names import networks_of
from edge_prompt_export.modalities.text.backbone import TextBackbone
from edge_prompt_export.modalities.text.network import ConditionedTextEncoder
from edge_prompt_export.modalities.text.pooling import POOLINGS
from edge_prompt_export.modalities.text.sentence_transformers import SentenceSettings, read_sentence_settings

logger = logging.getLogger(__name__)

AUTO_CLASSES = {
    "feature-extraction": AutoModel,
    "text-classification": AutoModelForSequenceClassification,
    "token-classification": AutoModelForTokenClassification,
    "fill-mask": AutoModelForMaskedLM,
}

TASK_OF_HEAD = {"ForSequenceClassification": "text-classification", "ForTokenClassification": "token-classification"}
"""The task of a checkpoint, by the ending of its architecture's name; all others are loaded for feature extraction."""

_TOKEN_FALLBACK = 512
"""Maximum number of tokens if neither the tokenizer nor the configuration has one."""

_UNBOUNDED = 1_000_000
"""Values above this mean no maximum: transformers sets a huge number for such tokenizers."""


def accepts_checkpoint(_config: PreTrainedConfig, _task: str | None, _options: LoadOptions) -> bool:
    """Whether to load a checkpoint as a text encoder: any that no other modality accepts."""
    return True


def load(
    source: str, config: PreTrainedConfig, task: str | None, pooling: str | None, options: LoadOptions
) -> Checkpoint:
    """Load a text encoder; see `load_backbone`."""
    _require_side(source, config, task)
    task = task or task_of(config, TASK_OF_HEAD, "feature-extraction")
    auto_class = _auto_class(source, task, config)
    with loading_errors(source), suppress_library_output():
        model, info = auto_class.from_pretrained(
            source, config=config, dtype=torch.float32, output_loading_info=True, **options.arguments()
        )
    tokenizer = load_tokenizer(source, options)
    model.eval().requires_grad_(requires_grad=False)
    sentence = read_sentence_settings(source, options.arguments())
    if sentence.left_out:
        logger.warning(
            "%s: a bundle does not contain the modules %s, so its embeddings are those before these modules",
            source,
            ", ".join(sentence.left_out),
        )
    pooling = _pooling(source, pooling or sentence.pooling)
    with first_run_errors(type(model).__name__), suppress_library_output():
        module = ConditionedTextEncoder(model, task, pooling)
        module.eval()
    preprocessing = _preprocessing(module, tokenizer, sentence)
    backbone = TextBackbone(source, options, module, preprocessing, tokenizer, *identity_of(module))
    return Checkpoint(backbone, set(info["missing_keys"]))


def _require_side(source: str, config: PreTrainedConfig, task: str | None) -> None:
    """Refuse a network for images and texts if neither the task nor a head determines which of them to load."""
    both = all(getattr(config, f"{side}_config", None) is not None for side in ("vision", "text"))
    if both and not task and not task_of(config, TASK_OF_HEAD, ""):
        raise BackboneError(
            found=f"{source} ({config.model_type}) takes images and texts, and no task selects one of them",
            wanted="a task for one of them",
            remedy="pass --task image-feature-extraction for its vision tower, or a text task for its text tower",
        )


def _preprocessing(
    module: ConditionedTextEncoder, tokenizer: PreTrainedTokenizerBase | None, sentence: SentenceSettings
) -> TextPreprocessing:
    config = module.model.config
    bounds = [sentence.max_tokens, module.num_positions, getattr(tokenizer, "model_max_length", None)]
    known = [bound for bound in bounds if bound is not None and bound < _UNBOUNDED]
    pad_token_id = getattr(tokenizer, "pad_token_id", None)
    pad_token_id = getattr(config, "pad_token_id", None) if pad_token_id is None else pad_token_id
    return TextPreprocessing(
        max_tokens=min(known, default=getattr(config, "max_position_embeddings", None) or _TOKEN_FALLBACK),
        max_positions=module.num_positions,
        vocab_size=int(module.embedding.weight.shape[0]),
        num_token_types=max(1, getattr(config, "type_vocab_size", 1)),
        pad_token_id=pad_token_id or 0,
        pooling=module.pooling,
        normalize=sentence.normalize,
    )


def _auto_class(source: str, task: str, config: PreTrainedConfig) -> Any:
    # the configuration of an encoder-only T5 denies being an encoder-decoder, and AutoModel would add a random decoder
    if task == "feature-extraction" and type(config) in networks_of(AutoModelForTextEncoding):
        return AutoModelForTextEncoding
    if not getattr(config, "is_encoder_decoder", False):
        return AUTO_CLASSES[task]
    raise BackboneError(
        found=f"{source} is an encoder-decoder ({config.model_type})",
        wanted="a text encoder, or an architecture whose encoder can be loaded without its decoder",
        remedy="choose another backbone",
    )


def _pooling(source: str, name: str) -> str:
    if name not in POOLINGS:
        raise BackboneError(
            found=f"{source} pools by {name!r}",
            wanted=f"one of {', '.join(POOLINGS)}",
            remedy="pass one of them (--pooling)",
        )
    return name


def load_tokenizer(source: str, options: LoadOptions) -> PreTrainedTokenizerBase | None:
    """The tokenizer of the checkpoint; None if it has none. That is not an error: callers may pass token arrays."""
    folder = Path(source)
    names = (
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
        "vocab.json",
        "spiece.model",
        "sentencepiece.bpe.model",
    )
    if options.gguf_file is None and folder.is_dir() and not any((folder / name).exists() for name in names):
        return None
    with loading_errors(source), suppress_library_output():
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source, **options.arguments())
    return tokenizer
