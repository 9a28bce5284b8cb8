"""Tiny networks, their bundles, and adapters that PEFT itself saves for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from transformers import AutoModelForSequenceClassification

from edge_prompt import read_bundle
from edge_prompt.formats.manifest import write_manifest
from edge_prompt.formats.preprocessing import TextPreprocessing
from edge_prompt_export import export_backbone

BuildOnce = Callable[[str, Callable[[Path], object]], Path]

LENGTH, CLASSES = 5, 3
SIZES: dict[str, Any] = {
    "vocab_size": 120,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "initializer_range": 0.2,
    "max_position_embeddings": 64,
}
ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("pooler", SIZES),
    "roberta": ("first", SIZES | {"pad_token_id": 1, "bos_token_id": 0}),
    "electra": ("first", SIZES | {"embedding_size": 16}),
    "distilbert": (
        "first",
        {"vocab_size": 120, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "initializer_range": 0.2},
    ),
}
"""The feature that the classifier of an architecture reads, and the sizes of a tiny one."""

LANGUAGE_MODELS: dict[str, dict[str, Any]] = {
    "gpt2": {
        "bos_token_id": 1,
        "eos_token_id": 1,
        "vocab_size": 120,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 64,
        "initializer_range": 0.2,
    },
    "llama": SIZES | {"num_key_value_heads": 2, "eos_token_id": None},
    "qwen2": SIZES | {"num_key_value_heads": 2, "eos_token_id": None},
    "opt": {
        "vocab_size": 120,
        "hidden_size": 32,
        "word_embed_proj_dim": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "ffn_dim": 64,
        "init_std": 0.2,
        "max_position_embeddings": 64,
        "eos_token_id": None,
    },
    "gemma3_text": SIZES
    | {
        "num_key_value_heads": 2,
        "head_dim": 8,
        "sliding_window": 6,
        "layer_types": ["sliding_attention", "full_attention"],
        "eos_token_id": None,
    },
}


@pytest.fixture(scope="session")
def encoder(build_once: BuildOnce) -> Callable[[str], Path]:
    """The folder of a tiny text encoder without a classifier, like a downloaded checkpoint: `encoder("bert")`."""

    def build(model_type: str) -> Path:
        def write(folder: Path) -> None:
            config = transformers.AutoConfig.for_model(model_type, **ENCODERS[model_type][1])
            with torch.random.fork_rng():
                torch.manual_seed(0)
                transformers.AutoModel.from_config(config).save_pretrained(folder)

        return build_once(f"adapted_{model_type}", write)

    return build


@pytest.fixture(scope="session")
def encoder_bundle(build_once: BuildOnce, encoder: Callable[[str], Path]) -> Callable[[str], Path]:
    """The bundle of such an encoder with the feature that its classifier reads; do not modify it."""

    def build(model_type: str) -> Path:
        pooling = ENCODERS[model_type][0]
        return build_once(
            f"adapted_{model_type}_bundle",
            lambda folder: export_backbone(encoder(model_type), folder, pooling=pooling),
        )

    return build


@pytest.fixture(scope="session")
def language_model(build_once: BuildOnce) -> Callable[[str], Path]:
    """The folder of a tiny causal language model: `language_model("gpt2")`."""

    def build(model_type: str) -> Path:
        def write(folder: Path) -> None:
            config = transformers.AutoConfig.for_model(model_type, **LANGUAGE_MODELS[model_type])
            with torch.random.fork_rng():
                torch.manual_seed(0)
                transformers.AutoModelForCausalLM.from_config(config).save_pretrained(folder)

        return build_once(f"adapted_{model_type}", write)

    return build


@pytest.fixture(scope="session")
def language_bundle(build_once: BuildOnce, language_model: Callable[[str], Path]) -> Callable[[str], Path]:
    """The bundle of such a language model for both engines; do not modify it."""

    def build(model_type: str) -> Path:
        return build_once(
            f"adapted_{model_type}_bundle", lambda folder: export_backbone(language_model(model_type), folder)
        )

    return build


@pytest.fixture
def manifest_only(tiny_bundle: Path, tmp_path: Path) -> Callable[..., Path]:
    """A bundle that contains only a manifest, since importing reads nothing else: `manifest_only("gpt2", {…})`."""

    def write(source: str, kinds: dict[str, Any], *, max_positions: int | None = 64, **backbone: Any) -> Path:
        manifest = read_bundle(tiny_bundle).manifest
        folder = tmp_path / "manifest_only"
        folder.mkdir(exist_ok=True)
        inputs = ("input_ids", "attention_mask", *("soft_prompt" for kind in kinds if kind == "soft"))
        inputs += tuple("prefix" for kind in kinds if kind == "prefix")
        graphs = {engine: replace(graph, inputs=inputs) for engine, graph in manifest.graphs.items()}
        assert isinstance(manifest.preprocessing, TextPreprocessing)
        changed = replace(
            manifest,
            backbone=replace(manifest.backbone, source=source, **backbone),
            kinds=kinds,
            graphs=graphs,
            preprocessing=replace(manifest.preprocessing, max_positions=max_positions),
        )
        write_manifest(folder, changed)
        return folder

    return write


@pytest.fixture
def classifier_model(encoder: Callable[[str], Path]) -> Callable[..., Any]:
    """PEFT's model of a tiny encoder with a classifier and a random adapter: `classifier_model("bert", config)`."""

    def build(model_type: str, config: peft.PeftConfig) -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(1)
            network = AutoModelForSequenceClassification.from_pretrained(encoder(model_type), num_labels=CLASSES)
            return peft.get_peft_model(network, config).eval()

    return build


@pytest.fixture
def adapter(classifier_model: Callable[..., Any], tmp_path: Path) -> Path:
    """A prefix with a classifier for the tiny BERT, as saved by PEFT, for tests that tamper with it."""
    config = peft.PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=LENGTH)
    classifier_model("bert", config).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"
