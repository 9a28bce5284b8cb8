from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTextEncoding,
    AutoModelForTokenClassification,
)

from edge_prompt_export.families.text_encoder import ConditionedTextEncoder

AUTO_CLASSES = {
    "feature-extraction": AutoModel,
    "text-classification": AutoModelForSequenceClassification,
    "token-classification": AutoModelForTokenClassification,
    "fill-mask": AutoModelForMaskedLM,
}

SIZES = {
    "vocab_size": 120,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
PADDED_WITH_1 = SIZES | {"pad_token_id": 1, "bos_token_id": 0}
GROUPED_QUERIES = SIZES | {"num_key_value_heads": 2, "head_dim": 8}
DISENTANGLED = SIZES | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]}
T5_SIZES = {"vocab_size": 120, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
ROTARY = SIZES | {"cls_token_id": 1, "sep_token_id": 2, "mask_token_id": 3}

NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "albert": SIZES | {"embedding_size": 16},
    "bart": {"vocab_size": 120, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "pad_token_id": 1},
    "bert": SIZES,
    "bert-generation": SIZES,
    "camembert": PADDED_WITH_1,
    "canine": SIZES,
    "clip_text_model": SIZES,
    "convbert": SIZES,
    "data2vec-text": PADDED_WITH_1,
    "deberta": DISENTANGLED,
    "deberta-v2": DISENTANGLED | {"position_biased_input": False},
    "deepseek_v3": SIZES
    | {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8}
    | {"n_routed_experts": 4, "moe_intermediate_size": 16, "first_k_dense_replace": 2, "n_group": 1, "topk_group": 1},
    "distilbert": {"vocab_size": 120, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    "electra": SIZES | {"embedding_size": 16},
    "ernie": SIZES,
    "eurobert": ROTARY | {"num_key_value_heads": 2},
    "fnet": SIZES,
    "gemma2": GROUPED_QUERIES,
    "gpt_oss": GROUPED_QUERIES | {"num_local_experts": 4},
    "gte": SIZES,
    "jina_embeddings_v3": SIZES,
    "layoutlm": SIZES,
    "llama": GROUPED_QUERIES,
    "luke": PADDED_WITH_1 | {"entity_vocab_size": 10, "entity_emb_size": 8},
    "megatron-bert": SIZES,
    "modernbert": ROTARY | {"local_attention": 8, "global_attn_every_n_layers": 2, "max_position_embeddings": 64},
    "mpnet": PADDED_WITH_1,
    "nomic_bert": SIZES,
    "nystromformer": SIZES | {"segment_means_seq_len": 8},
    "qwen3": GROUPED_QUERIES,
    "rembert": SIZES | {"input_embedding_size": 16, "output_embedding_size": 16},
    "roberta": PADDED_WITH_1,
    "roberta-prelayernorm": PADDED_WITH_1,
    "roformer": SIZES,
    "splinter": SIZES,
    "squeezebert": SIZES
    | {f"{part}_groups": 1 for part in ("q", "k", "v", "post_attention", "intermediate", "output")}
    | {"embedding_size": 32},
    "t5": T5_SIZES,
    "umt5": T5_SIZES,
    "xlm": {"vocab_size": 120, "emb_dim": 32, "n_layers": 2, "n_heads": 4},
    "xlm-roberta": PADDED_WITH_1,
    "xlm-roberta-xl": PADDED_WITH_1,
    "xlnet": {"vocab_size": 120, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64},
    "xmod": PADDED_WITH_1 | {"default_language": "en_XX"},
}
"""Sizes of a tiny network of each architecture, in the words of its own configuration."""


@pytest.fixture(scope="session")
def tiny_network() -> Callable[..., Any]:
    """Builds a tiny random network as transformers gives it; its weights are large enough that every part counts."""

    def build(model_type: str, task: str = "feature-extraction", **settings: Any) -> Any:
        config = AutoConfig.for_model(model_type, **dict(NETWORKS[model_type]) | settings)
        encoder_only = config.is_encoder_decoder and model_type != "bart"
        auto_class = AutoModelForTextEncoding if encoder_only else AUTO_CLASSES[task]
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = auto_class.from_config(config).eval()
            for parameter in network.parameters():
                if parameter.dim() > 1:
                    torch.nn.init.normal_(parameter, std=0.3)
        return network.requires_grad_(requires_grad=False)

    return build


@pytest.fixture(scope="session")
def conditioned(tiny_network: Callable[..., Any]) -> Callable[..., ConditionedTextEncoder]:
    """Builds a tiny random network and conditions it."""

    def build(model_type: str, task: str = "feature-extraction", **settings: Any) -> ConditionedTextEncoder:
        return ConditionedTextEncoder(tiny_network(model_type, task, **settings), task, "mean").eval()

    return build


@pytest.fixture
def checkpoint(tiny_network: Callable[..., Any], tmp_path: Path) -> Callable[..., Path]:
    """Saves a tiny random network to a folder."""

    def save(model_type: str, task: str = "feature-extraction", name: str = "network", **settings: Any) -> Path:
        folder = tmp_path / name
        tiny_network(model_type, task, **settings).save_pretrained(folder)
        return folder

    return save
