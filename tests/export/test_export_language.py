from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
from transformers import AutoModelForCausalLM

from edge_prompt.formats.bundle import read_bundle
from edge_prompt.formats.kv_cache_names import past_names, present_names
from edge_prompt.formats.manifest import LanguageManifest
from edge_prompt_export import export_backbone
from edge_prompt_export.modalities.registry import load_backbone
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.engines.openvino.paged_attention import page
from edge_prompt_runtime.reference import TOLERANCE
from tests.tiny.language import (
    HEAD_DIM,
    HEADS,
    HIDDEN_SIZE,
    KV_HEADS,
    LAYERS,
    POSITIONS,
    VOCAB_SIZE,
    write_tiny_language,
)

SLIDING = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}


LONG = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0] * 8,
    "long_factor": [4.0] * 8,
    "original_max_position_embeddings": 64,
}

EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}


@pytest.mark.parametrize(
    ("model_type", "config"),
    [
        ("gpt2", {}),
        ("gemma3_text", SLIDING),
        ("gemma2", SLIDING),
        ("qwen3", {}),
        ("gpt_neox", {}),
        ("mixtral", EXPERTS),
    ],
)
def test_both_engines_agree_with_torch_under_every_kind(
    model_type: str, config: dict[str, object], tmp_path: Path
) -> None:
    write_tiny_language(tmp_path / "network", model_type, **config)
    bundle = export_backbone(tmp_path / "network", tmp_path / "bundle")
    for engine in ("onnxruntime", "openvino"):
        figures = bundle.manifest.parity[engine]
        assert max(figures[name] for name in ("torch", "length_0", "mixed_batch")) <= TOLERANCE
        assert set(figures["effect"]) == {"soft", "prefix"}


def test_the_graphs_have_the_ecosystems_names(tiny_language_bundle: Path) -> None:
    bundle = read_bundle(tiny_language_bundle)
    tokens = {"input_ids", "attention_mask", "position_ids", "logits_to_keep", "soft_prompt"}
    graph = onnx.load(tiny_language_bundle / "model.onnx", load_external_data=False).graph
    assert {value.name for value in graph.input} == {*tokens, *past_names(LAYERS)}
    assert [value.name for value in graph.output] == ["logits", *present_names(LAYERS)]
    model = openvino.Core().read_model(tiny_language_bundle / "openvino_model.xml")
    assert {port.any_name for port in model.inputs} == {*tokens, "beam_idx"}
    assert [port.any_name for port in model.outputs] == ["logits"]
    assert isinstance(bundle.manifest, LanguageManifest)
    assert bundle.manifest.kv_cache == ((KV_HEADS, HEAD_DIM),) * LAYERS
    assert bundle.manifest.kinds["prefix"] == (LAYERS, 2, KV_HEADS, None, HEAD_DIM)


def test_the_graph_of_onnx_runtime_is_of_its_own_operators_and_has_no_weights_of_its_own(
    tiny_language_bundle: Path,
) -> None:
    model = onnx.load(tiny_language_bundle / "model_onnxruntime.onnx", load_external_data=False)
    kinds = Counter(node.op_type for node in model.graph.node)
    assert kinds["GroupQueryAttention"] == LAYERS
    assert kinds["MatMul"] == 4 * LAYERS + 1  # queries, keys and values are one product; gate and up another
    assert kinds["Split"] == LAYERS  # attention reads the first as it is
    assert kinds["SkipSimplifiedLayerNormalization"] == 2 * LAYERS
    assert not kinds.keys() & {"Softmax", "Where", "Transpose", "Pow", "Sin", "RotaryEmbedding"}
    stored = [weight for weight in model.graph.initializer if weight.data_location != onnx.TensorProto.EXTERNAL]
    assert sum(weight.ByteSize() for weight in stored) < 1024


@pytest.mark.parametrize(
    ("model_type", "config", "outside", "within"),
    [
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, 0, LAYERS),
        ("gemma3_text", SLIDING, 0, LAYERS),  # two tables
        ("llama", {"head_dim": 8}, 2 * LAYERS, 0),  # attention rotates heads of multiples of 16
        ("llama", {"rope_parameters": LONG}, 2 * LAYERS, 0),  # frequencies depend on the length of the request
    ],
)
def test_attention_rotates_by_a_table_where_there_is_one(
    model_type: str, config: dict[str, object], outside: int, within: int, tmp_path: Path
) -> None:
    write_tiny_language(tmp_path / "network", model_type, **config)
    export_backbone(tmp_path / "network", tmp_path / "bundle", formats=("onnx",))
    model = onnx.load(tmp_path / "bundle" / "model_onnxruntime.onnx", load_external_data=False)
    rotary = [node for node in model.graph.node if node.op_type == "RotaryEmbedding"]
    attention = [node for node in model.graph.node if node.op_type == "GroupQueryAttention"]
    rotating = [node for node in attention for it in node.attribute if (it.name, it.i) == ("do_rotary", 1)]
    assert (len(rotary), len(rotating)) == (outside, within)


def test_the_plain_graph_is_of_standard_operators_and_computes_the_same(
    tiny_language: Path, tiny_language_bundle: Path
) -> None:
    model = onnx.load(tiny_language_bundle / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in model.graph.node} == {""}
    session = onnxruntime.InferenceSession(tiny_language_bundle / "model.onnx", providers=["CPUExecutionProvider"])
    module = load_backbone(str(tiny_language)).module
    for batch, past, virtual, new in ((1, 0, 0, 1), (1, 5, 0, 3), (2, 4, 3, 6)):
        inputs = {
            "input_ids": torch.randint(1, VOCAB_SIZE, (batch, new)),
            "attention_mask": torch.ones(batch, past + virtual + new, dtype=torch.long),
            "position_ids": torch.arange(past, past + virtual + new)[None].repeat(batch, 1),
            "logits_to_keep": torch.arange(virtual + new),
            "soft_prompt": torch.randn(1, virtual, HIDDEN_SIZE),
            **{name: torch.randn(batch, KV_HEADS, past, HEAD_DIM) for name in past_names(LAYERS)},
        }
        with torch.no_grad():
            wanted = module(**inputs)
        found = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
        for array, tensor in zip(found, wanted, strict=True):
            np.testing.assert_allclose(array, tensor.numpy(), atol=1e-5)


@pytest.mark.parametrize(("model_type", "is_paged"), [("gemma3_text", True), ("gemma2", False)])
def test_openvino_pages_what_paged_attention_computes(model_type: str, is_paged: bool, tmp_path: Path) -> None:
    write_tiny_language(tmp_path / "network", model_type, **SLIDING)
    export_backbone(tmp_path / "network", tmp_path / "bundle", formats=("openvino",))
    model = openvino.Core().read_model(tmp_path / "bundle" / "openvino_model.xml")
    assert page(model) is is_paged
    layers = [node for node in model.get_ordered_ops() if node.get_type_name() == "PagedAttentionExtension"]
    windows = [int(layer.input(10).get_source_output().get_node().get_data()) for layer in layers]
    assert windows == ([8, 0] if is_paged else [])


def test_openvino_fuses_every_attention_with_its_cache(tiny_language_bundle: Path) -> None:
    compiled = openvino.Core().compile_model(tiny_language_bundle / "openvino_model.xml", "CPU")
    layers = [node.get_rt_info()["layerType"].value for node in compiled.get_runtime_model().get_ops()]
    assert layers.count("ScaledDotProductAttention") == LAYERS


def test_tied_weights_are_stored_once(tmp_path: Path) -> None:
    write_tiny_language(tmp_path / "tied", tie_word_embeddings=True)
    write_tiny_language(tmp_path / "apart")
    sizes = {}
    for name in ("tied", "apart"):
        bundle = export_backbone(tmp_path / name, tmp_path / f"{name}_bundle").folder
        sizes[name] = [(bundle / file).stat().st_size for file in ("model.onnx_data", "openvino_model.bin")]
    table_bytes = 320 * 32 * 4
    for tied, apart in zip(sizes["tied"], sizes["apart"], strict=True):
        assert abs(apart - tied - table_bytes) < 4096


def test_the_files_that_a_device_needs_are_copied(tiny_language_bundle: Path) -> None:
    files = read_bundle(tiny_language_bundle).manifest.files
    assert {"config.json", "tokenizer.json", "generation_config.json", "chat_template.jinja", "reference.npz"} <= set(
        files
    )


def test_a_network_without_a_task_generates_if_its_head_does(tiny_language: Path) -> None:
    assert load_backbone(str(tiny_language)).module.task == "text-generation"
    assert load_backbone(str(tiny_language), "feature-extraction").module.task == "feature-extraction"


def test_a_gguf_file_equals_its_network(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import gguf

    folder = tmp_path / "network"
    write_tiny_language(folder)
    path = tmp_path / "tiny.gguf"
    write_gguf(gguf, folder, path)
    bundle = export_backbone(path, tmp_path / "bundle", formats=("onnx",))
    assert "de-quantizing" not in capsys.readouterr().err
    assert bundle.manifest.backbone.source == "tiny.gguf"
    assert {"tokenizer.json", "generation_config.json"} <= bundle.manifest.files.keys()
    reference = Runtime(export_backbone(folder, tmp_path / "reference", formats=("onnx",)).folder)
    found = Runtime(bundle.folder)
    tokens = [runtime.generate([[5, 6, 7]], max_new_tokens=9)[0].tokens for runtime in (found, reference)]  # type: ignore[index]
    assert tokens[0] == tokens[1]


def write_gguf(gguf: Any, folder: Path, path: Path) -> None:
    """Write the network in `folder` like llama.cpp's converter: with its names, and with interleaved rotary halves."""
    network = AutoModelForCausalLM.from_pretrained(folder)
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(POSITIONS)
    writer.add_embedding_length(HIDDEN_SIZE)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(48)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD_DIM)
    writer.add_value_length(HEAD_DIM)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(network.config.rms_norm_eps)
    tokens = sorted(vocabulary["vocab"], key=vocabulary["vocab"].__getitem__)
    tokens += [f"<|unused{index}|>" for index in range(VOCAB_SIZE - len(tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in vocabulary["merges"]])
    writer.add_eos_token_id(0)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, LAYERS)
    for name, tensor in network.state_dict().items():
        array = tensor.numpy()
        for part, heads in (("q_proj", HEADS), ("k_proj", KV_HEADS)):
            if part in name:
                array = array.reshape(heads, 2, HEAD_DIM // 2, -1).swapaxes(1, 2).reshape(array.shape)
        writer.add_tensor(names.get_name(name, (".weight",)), array.copy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
