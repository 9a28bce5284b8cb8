from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTextEncoding,
    AutoModelForTokenClassification,
)

from edge_prompt_export.modalities.image.network import ConditionedVision
from edge_prompt_export.modalities.text.network import ConditionedTextEncoder
from tests.export.training_fixtures import (  # noqa: F401 - fixtures
    _one_thread,
    examples,
    image_folder,
    loaded,
    loaded_language,
    loaded_vision,
    tiny_image_backbone,
    train_file,
    trained_vision,
    written,
)

torch.set_num_threads(1)  # with tiny networks and several workers, more threads only wait for each other

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
    """Builds a tiny random transformers network with weights large enough that every part has an effect."""

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


class ImageNetwork(NamedTuple):
    """A tiny image network: its task, its class, its sizes, and the size of its images."""

    task: str
    architecture: str
    settings: Mapping[str, Any]
    image_size: tuple[int, int] = (32, 32)


FEATURES, CLASSES = "image-feature-extraction", "image-classification"
WIDTHS: Mapping[str, Any] = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 48}
PATCHES: Mapping[str, Any] = {"image_size": 32, "patch_size": 8, "num_channels": 3}
VIT = {**WIDTHS, **PATCHES, "num_hidden_layers": 3}
DEEPER_VIT = VIT | {"num_hidden_layers": 4}
OTHER_SIZE = VIT | {"image_size": 64, "mlp_ratio": 2}
DPT_NECK = {"neck_hidden_sizes": [8, 8, 16, 16], "fusion_hidden_size": 16, "backbone_out_indices": [0, 1, 2, 3]}
SEGFORMER = {"num_encoder_blocks": 2, "depths": [1, 1], "sr_ratios": [2, 1], "hidden_sizes": [8, 16]} | {
    "num_attention_heads": [1, 2],
    "patch_sizes": [7, 3],
    "strides": [4, 2],
    "mlp_ratios": [2, 2],
    "decoder_hidden_size": 16,
}

IMAGE_NETWORKS: Mapping[str, ImageNetwork] = {
    "beit": ImageNetwork(CLASSES, "BeitForImageClassification", VIT | {"use_relative_position_bias": True}),
    "beit-segments": ImageNetwork(
        "semantic-segmentation",
        "BeitForSemanticSegmentation",
        DEEPER_VIT | {"use_relative_position_bias": True, "out_indices": [1, 2, 3, 4], "num_labels": 5},
    ),
    "beit-shared": ImageNetwork(FEATURES, "BeitModel", VIT | {"use_shared_relative_position_bias": True}),
    "clip": ImageNetwork(FEATURES, "CLIPVisionModel", VIT),
    "clip-classes": ImageNetwork(CLASSES, "CLIPForImageClassification", {"vision_config": VIT}),
    "convnext": ImageNetwork(
        FEATURES, "ConvNextModel", {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2, "image_size": 32}
    ),
    "data2vec": ImageNetwork(FEATURES, "Data2VecVisionModel", VIT),
    "deit": ImageNetwork(FEATURES, "DeiTModel", VIT),
    "dinov2": ImageNetwork(FEATURES, "Dinov2Model", OTHER_SIZE),
    "dinov2-registers": ImageNetwork(FEATURES, "Dinov2WithRegistersModel", OTHER_SIZE | {"num_register_tokens": 3}),
    "dinov3": ImageNetwork(FEATURES, "DINOv3ViTModel", VIT | {"num_register_tokens": 2}),
    "dpt": ImageNetwork(FEATURES, "DPTModel", VIT),
    "dpt-segments": ImageNetwork(
        "semantic-segmentation", "DPTForSemanticSegmentation", DEEPER_VIT | DPT_NECK | {"num_labels": 5}
    ),
    "hiera": ImageNetwork(
        FEATURES,
        "HieraModel",
        {"embed_dim": 16, "patch_stride": [4, 4], "depths": [1, 1], "num_heads": [2, 4]}
        | {"num_query_pool": 1, "image_size": [64, 64]},
        (64, 64),
    ),
    "ijepa": ImageNetwork(FEATURES, "IJepaModel", VIT),
    "segformer": ImageNetwork("semantic-segmentation", "SegformerForSemanticSegmentation", SEGFORMER),
    "siglip": ImageNetwork(FEATURES, "SiglipVisionModel", VIT),
    "siglip-classes": ImageNetwork(CLASSES, "SiglipForImageClassification", {"vision_config": VIT}),
    "swin": ImageNetwork(
        FEATURES,
        "SwinModel",
        {"patch_size": 4, "embed_dim": 16, "depths": [2], "num_heads": [2], "window_size": 4, "image_size": 32},
    ),
    "swin-stages": ImageNetwork(
        FEATURES,
        "SwinModel",
        {"patch_size": 4, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4, "image_size": 32},
    ),
    "vit": ImageNetwork(FEATURES, "ViTModel", VIT),
    "vit-classes": ImageNetwork(CLASSES, "ViTForImageClassification", VIT),
    "vit_msn": ImageNetwork(FEATURES, "ViTMSNModel", VIT),
    "yolos": ImageNetwork(
        "object-detection",
        "YolosForObjectDetection",
        VIT | {"image_size": [32, 48], "num_detection_tokens": 5, "num_labels": 4},
        (32, 48),
    ),
}
"""A tiny network of each image architecture."""

IMAGE_NETWORKS_WITHOUT_TOKENS = {
    "convnext": "does not dispatch its attention",
    "data2vec": "does not dispatch its attention",
    "hiera": "does not dispatch its attention",
    "segformer": "has layers of different key and value sizes",
    "swin": "attends within windows of an image",
    "swin-stages": "has layers of different key and value sizes",
}
"""Why virtual tokens do not enter some: these take a pixel prompt only."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give `image_network_name` every tiny image network, and `transformer_name` those that take virtual tokens."""
    names = {"image_network_name": [*IMAGE_NETWORKS]}
    names["transformer_name"] = [name for name in IMAGE_NETWORKS if name not in IMAGE_NETWORKS_WITHOUT_TOKENS]
    for argument, values in names.items():
        if argument in metafunc.fixturenames:
            metafunc.parametrize(argument, values)


@pytest.fixture(scope="session")
def image_network() -> Callable[..., Any]:
    """Builds a tiny random transformers image network with weights large enough that all have an effect."""

    def build(name: str, **settings: Any) -> Any:
        architecture = getattr(transformers, IMAGE_NETWORKS[name].architecture)
        config = architecture.config_class(**dict(IMAGE_NETWORKS[name].settings) | settings)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = architecture(config).eval().requires_grad_(requires_grad=False)
            for parameter_name, parameter in network.named_parameters():
                if parameter.dim() > 1:
                    torch.nn.init.normal_(parameter, std=0.2)
                elif "bias" in parameter_name:
                    torch.nn.init.normal_(parameter, std=0.1)
                elif "lambda" in parameter_name:
                    torch.nn.init.constant_(parameter, 0.7)
        return network

    return build


@pytest.fixture(scope="session")
def conditioned_image(image_network: Callable[..., Any]) -> Callable[..., ConditionedVision]:
    """Builds a tiny random image network and conditions it."""

    def build(name: str, pooling: str | None = None, **settings: Any) -> ConditionedVision:
        network = IMAGE_NETWORKS[name]
        return ConditionedVision(image_network(name, **settings), network.task, pooling, network.image_size).eval()

    return build


@pytest.fixture(scope="session")
def vision(conditioned_image: Callable[..., ConditionedVision]) -> Callable[[str], ConditionedVision]:
    """A tiny conditioned image network, built once; do not modify it."""
    return cache(conditioned_image)


@pytest.fixture(scope="session")
def image_reasons() -> Mapping[str, str]:
    """Why some tiny image networks take no virtual tokens."""
    return IMAGE_NETWORKS_WITHOUT_TOKENS


@pytest.fixture
def image_checkpoint(image_network: Callable[..., Any], tmp_path: Path) -> Callable[..., Path]:
    """Saves a tiny random image network to a folder, with the image processor given."""

    def save(name: str, processor: Mapping[str, Any] | None = None, **settings: Any) -> Path:
        folder = tmp_path / name
        image_network(name, **settings).save_pretrained(folder)
        if processor is not None:
            (folder / "preprocessor_config.json").write_text(json.dumps(processor), encoding="utf-8")
        return folder

    return save
