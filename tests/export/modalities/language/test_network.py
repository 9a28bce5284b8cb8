from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from edge_prompt.base.errors import UnsupportedArchitectureError
from edge_prompt_export.backbone.backbone import LoadedBackbone
from edge_prompt_export.conditioning.cached_attention import CACHED_ATTENTION_NAME
from edge_prompt_export.modalities.language.network import ConditionedCausalLM
from edge_prompt_export.modalities.registry import load_backbone
from tests.tiny.language import LAYERS, POSITIONS, VOCAB_SIZE, write_tiny_language
from tests.transformers_reference import cache_argument, cache_of

SLIDING = {"sliding_window": 8}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {},
    "gpt2": {},
    "qwen2": {},
    "qwen3": {},
    "opt": {"word_embed_proj_dim": 32, "ffn_dim": 48},
    "gpt_neox": {},
    "phi3": {},
    "gemma": {},
    "gemma2": SLIDING,
    "gemma3_text": SLIDING | {"layer_types": ["sliding_attention", "full_attention"]},
    "mistral": SLIDING,
    "granite": {},
    "cohere": {},
    "stablelm": {},
    "olmo2": {},
    "smollm3": {},
    "starcoder2": {},
    "mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen3_moe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "decoder_sparse_step": 1},
}

NEWLY_DISPATCHED: dict[str, dict[str, Any]] = {"gptj": {"rotary_dim": 4}, "codegen": {"rotary_dim": 4}}
"""Architectures that dispatch their attention since transformers 5.24, and are refused before it."""


def dispatches(model_type: str) -> bool:
    """Whether the installed transformers dispatches the attention of an architecture through its interface."""
    modeling = importlib.import_module(f"transformers.models.{model_type}.modeling_{model_type}")
    return hasattr(modeling, "ALL_ATTENTION_FUNCTIONS")


ARCHITECTURES |= {model_type: config for model_type, config in NEWLY_DISPATCHED.items() if dispatches(model_type)}
UNDISPATCHED = {model_type: config for model_type, config in NEWLY_DISPATCHED.items() if not dispatches(model_type)}


@pytest.fixture(params=ARCHITECTURES, scope="module")
def backbone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LoadedBackbone:
    folder = tmp_path_factory.mktemp(request.param)
    write_tiny_language(folder, request.param, **ARCHITECTURES[request.param])
    return load_backbone(str(folder))


@pytest.fixture
def module(backbone: LoadedBackbone) -> ConditionedCausalLM:
    assert isinstance(backbone.module, ConditionedCausalLM)
    return backbone.module


def logits_of(module: ConditionedCausalLM, request: dict[str, torch.Tensor], kind: str, array: Any) -> Any:
    return module.without_padding(module.prompted_outputs(request, kind, array), request)["logits"]


@contextmanager
def as_its_authors_wrote_it(module: ConditionedCausalLM) -> Iterator[None]:
    module.model.set_attn_implementation(module._original_attention)
    try:
        yield
    finally:
        module.model.set_attn_implementation(CACHED_ATTENTION_NAME)


def test_length_0_gives_the_unmodified_network(module: ConditionedCausalLM, backbone: LoadedBackbone) -> None:
    for request in module.parity_requests():
        with torch.no_grad():
            untouched = module.without_padding(module.original_outputs(request), request)["logits"]
        torch.testing.assert_close(logits_of(module, request, "", None), untouched, rtol=0, atol=2e-6)


def test_a_soft_prompt_is_embeddings_before_the_tokens(module: ConditionedCausalLM, backbone: LoadedBackbone) -> None:
    prompt = module.example_prompt("soft", 11, seed=3)
    request = {name: tensor[:1] for name, tensor in module.parity_requests()[2].items()}
    embeddings = torch.cat([prompt[None], module.embedding(request["input_ids"])], 1)
    with as_its_authors_wrote_it(module), torch.no_grad():
        reference = module.model(inputs_embeds=embeddings).logits[0, 11:]
    torch.testing.assert_close(logits_of(module, request, "soft", prompt), reference, rtol=0, atol=2e-6)


def test_a_prefix_is_the_past_of_its_authors_cache(module: ConditionedCausalLM, backbone: LoadedBackbone) -> None:
    prefix = module.example_prompt("prefix", 5, seed=4)
    request = {name: tensor[:1] for name, tensor in module.parity_requests()[2].items()}
    network = module.model
    cache = {cache_argument(network): cache_of(prefix.numpy(), 1)}
    with as_its_authors_wrote_it(module), torch.no_grad():
        reference = network(input_ids=request["input_ids"], **cache).logits[0]
    torch.testing.assert_close(logits_of(module, request, "prefix", prefix), reference, rtol=0, atol=2e-6)


def test_a_compiled_soft_prompt_is_the_soft_prompt(module: ConditionedCausalLM, backbone: LoadedBackbone) -> None:
    prompt = module.example_prompt("soft", 11, seed=5)
    request = {name: tensor[:1] for name, tensor in module.parity_requests()[2].items()}
    nothing = {name: tensor[:, :0] for name, tensor in request.items()}
    with torch.no_grad():
        present = module(**module.graph_inputs(nothing, module.as_input("soft", prompt)))[1:]
        past = dict(zip(module.cache_names, present, strict=True))
        found = module(**module.graph_inputs(request, past))[0][0]
    torch.testing.assert_close(found, logits_of(module, request, "soft", prompt), rtol=0, atol=2e-6)


def test_a_row_beside_longer_ones_is_the_row_alone(module: ConditionedCausalLM, backbone: LoadedBackbone) -> None:
    request = module.parity_requests()[1]
    prefix = module.example_prompt("prefix", 4, seed=6)
    together = module.prompted_outputs(request, "prefix", prefix)["logits"]
    for row in range(len(together)):
        alone = module.prompted_outputs(module.single_row(request, row), "prefix", prefix)["logits"][0]
        torch.testing.assert_close(together[row, : len(alone)], alone, rtol=0, atol=2e-6)


def test_the_network_describes_itself(module: ConditionedCausalLM, backbone: LoadedBackbone) -> None:
    assert module.task == "text-generation"
    assert len(module.layer_shapes) == LAYERS
    assert module.kinds["soft"] == (None, 32)
    assert module.kinds["prefix"][:2] == (LAYERS, 2)
    assert backbone.preprocessing.max_positions == POSITIONS  # type: ignore[union-attr]
    assert backbone.preprocessing.vocab_size == VOCAB_SIZE  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("model_type", "config", "message"),
    [
        *((model_type, config, "does not dispatch its attention") for model_type, config in UNDISPATCHED.items()),
        ("bloom", {}, "BloomForCausalLM takes no 'position_ids'"),
        ("falcon", {}, "FalconForCausalLM does not dispatch its attention"),
        ("gpt_oss", {"num_local_experts": 2}, "GptOssAttention passes s_aux to its attention"),
    ],
)
def test_unsupported_networks_are_refused_with_the_reason(
    model_type: str, config: dict[str, Any], message: str, tmp_path: Path
) -> None:
    write_tiny_language(tmp_path, model_type, **config)
    with pytest.raises(UnsupportedArchitectureError, match=message):
        load_backbone(str(tmp_path))
