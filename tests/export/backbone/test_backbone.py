from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification

from edge_prompt.base.errors import BackboneError, UnsupportedArchitectureError
from edge_prompt_export.backbone.backbone import LoadOptions, output_weights
from edge_prompt_export.modalities.registry import load_backbone
from edge_prompt_export.modalities.text.backbone import TextBackbone
from edge_prompt_export.modalities.text.checkpoint import AUTO_CLASSES

Checkpoint = Callable[..., Path]


def fingerprint(folder: Path, task: str | None = None) -> str:
    return load_backbone(str(folder), task).fingerprint


def test_a_checkpoint_without_a_head_is_loaded_for_its_features(tiny_backbone: Path) -> None:
    backbone = load_backbone(str(tiny_backbone))
    assert backbone.module.task == "feature-extraction"
    assert backbone.module.pooling == "mean"
    assert type(backbone.module.model).__name__ == "BertModel"
    assert backbone.labels == ()
    assert backbone.source_name == tiny_backbone.name
    assert not backbone.module.training
    assert not any(parameter.requires_grad for parameter in backbone.module.parameters())
    assert len(backbone.fingerprint) == 64


@pytest.mark.parametrize("task", ["text-classification", "token-classification"])
def test_a_checkpoint_with_a_head_is_loaded_with_it(checkpoint: Checkpoint, task: str) -> None:
    folder = checkpoint("distilbert", task, id2label={0: "red", 1: "green", 2: "blue"})
    backbone = load_backbone(str(folder))
    assert backbone.module.task == task
    assert backbone.labels == ("red", "green", "blue")


def test_a_checkpoint_with_a_head_can_be_loaded_for_its_features(checkpoint: Checkpoint) -> None:
    backbone = load_backbone(str(checkpoint("bert", "text-classification")), "feature-extraction")
    assert backbone.module.output_names == ("features", "last_hidden_state")
    assert backbone.labels == ()


def test_fill_mask_is_loaded_with_its_tied_weights(checkpoint: Checkpoint) -> None:
    folder = checkpoint("bert", "fill-mask")
    assert load_backbone(str(folder), "fill-mask").module.task == "fill-mask"
    assert load_backbone(str(folder)).module.task == "feature-extraction"


def load_text(folder: Path) -> TextBackbone:
    backbone = load_backbone(str(folder))
    assert isinstance(backbone, TextBackbone)
    return backbone


def test_an_encoder_that_stands_alone_is_loaded_without_its_decoder(checkpoint: Checkpoint) -> None:
    folder = checkpoint("t5")
    config = json.loads((folder / "config.json").read_text())
    for flag in (False, True):  # as T5EncoderModel saves itself, and as T5 does
        (folder / "config.json").write_text(json.dumps(config | {"is_encoder_decoder": flag}))
        backbone = load_text(folder)
        assert type(backbone.module.model).__name__ == "T5EncoderModel"
        assert backbone.max_positions is None


@pytest.mark.parametrize("task", ["text-classification", "token-classification", "fill-mask"])
def test_a_head_that_the_checkpoint_lacks_is_refused_rather_than_random(tiny_backbone: Path, task: str) -> None:
    with pytest.raises(BackboneError, match=r"lacks \d+ weights of BertFor.*Pass --task feature-extraction"):
        load_backbone(str(tiny_backbone), task)


def test_weights_that_the_checkpoint_lacks_inside_the_network_are_refused(checkpoint: Checkpoint) -> None:
    folder = checkpoint("bert")
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.1.attention.self.key.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BackboneError, match=r"lacks 1 weights of BertModel \(encoder\.layer\.1\.attention"):
        load_backbone(str(folder))


def test_a_missing_pooler_is_accepted_if_unused(checkpoint: Checkpoint) -> None:
    folder = checkpoint("bert", add_pooling_layer=False)
    weights = {name: weight for name, weight in load_file(folder / "model.safetensors").items() if "pooler" not in name}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert "pooler.dense.weight" not in output_weights(load_backbone(str(folder)).module)


def test_a_name_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"/nowhere: no such folder.*Check the path"):
        load_backbone(str(tmp_path / "nowhere"))


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="cannot be loaded"):
        load_backbone(str(tmp_path))


@pytest.mark.parametrize("content", ["{", "[]", "null", '{"model_type": "no_such_network"}', "{}", "\x00"])
def test_a_broken_configuration_is_refused(checkpoint: Checkpoint, content: str) -> None:
    folder = checkpoint("bert")
    (folder / "config.json").write_text(content)
    with pytest.raises(BackboneError, match="cannot be loaded"):
        load_backbone(str(folder))


@pytest.mark.parametrize("keep", [0, 4, 200, 20_000])
def test_broken_weights_are_refused(checkpoint: Checkpoint, keep: int) -> None:
    folder = checkpoint("bert")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(BackboneError, match="cannot be loaded"):
        load_backbone(str(folder))


def test_weights_of_another_size_are_refused(checkpoint: Checkpoint) -> None:
    folder = checkpoint("bert")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 48}))
    with pytest.raises(BackboneError, match="cannot be loaded"):
        load_backbone(str(folder))


def test_a_broken_tokenizer_is_refused(checkpoint: Checkpoint) -> None:
    folder = checkpoint("bert")
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(BackboneError, match="cannot be loaded"):
        load_backbone(str(folder))


def test_a_message_is_one_line(checkpoint: Checkpoint) -> None:
    folder = checkpoint("bert")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 48}))
    with pytest.raises(BackboneError) as caught:
        load_backbone(str(folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("task", ["summarization", "", "text classification"][::2])
def test_an_unknown_task_is_refused(tiny_backbone: Path, task: str) -> None:
    with pytest.raises(BackboneError, match=f"the task '{task}' for .*; expected one of {', '.join(AUTO_CLASSES)}"):
        load_backbone(str(tiny_backbone), task)


@pytest.mark.parametrize("task", [None, "text-classification"])
def test_an_encoder_decoder_without_an_encoder_of_its_own_is_refused(checkpoint: Checkpoint, task: str | None) -> None:
    with pytest.raises(BackboneError, match=r"is an encoder-decoder \(bart\)"):
        load_backbone(str(checkpoint("bart")), task)


def test_a_network_without_a_mask_is_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(UnsupportedArchitectureError, match="takes no 'attention_mask'"):
        load_backbone(str(checkpoint("fnet")))


@pytest.mark.parametrize(
    ("model_type", "task"), [("canine", None), ("t5", "text-classification"), ("nystromformer", None)]
)
def test_a_network_that_does_not_run_on_embeddings_is_refused(
    checkpoint: Checkpoint, model_type: str, task: str | None
) -> None:
    folder = checkpoint(model_type, task or "feature-extraction")
    with pytest.raises(UnsupportedArchitectureError, match=r"does not run \("):
        load_backbone(str(folder), task)


def test_code_in_a_checkpoint_does_not_run_by_default(checkpoint: Checkpoint, tmp_path: Path) -> None:
    folder = checkpoint("bert")
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\nclass EvilConfig: ...\n")
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "evil"}
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoConfig": "evil.EvilConfig"}}))
    with pytest.raises(BackboneError, match="--trust-remote-code"):
        load_backbone(str(folder))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("config", "asked", "pooling"),
    [(None, None, "mean"), ({"pooling_mode": "cls"}, None, "cls"), ({"pooling_mode": "cls"}, "mean", "mean")],
)
def test_pooling_is_what_is_asked_for_or_what_the_checkpoint_says(
    checkpoint: Checkpoint, config: dict[str, Any] | None, asked: str | None, pooling: str
) -> None:
    folder = checkpoint("bert")
    if config:
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))
    assert load_backbone(str(folder), pooling=asked).module.pooling == pooling


def test_a_pooling_that_we_do_not_know_is_refused(tiny_backbone: Path) -> None:
    with pytest.raises(BackboneError, match=r"pools by 'lasttoken'; expected one of mean, .*, pooler\. .*--pooling"):
        load_backbone(str(tiny_backbone), pooling="lasttoken")


def test_the_text_length_is_the_smallest_limit(tiny_backbone: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tiny_backbone, folder)
    backbone = load_text(folder)
    assert (backbone.max_tokens, backbone.max_positions) == (48, 64)
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 20}')
    assert load_text(folder).max_tokens == 20
    for name in ("sentence_bert_config.json", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    without_tokenizer = load_text(folder)
    assert without_tokenizer.tokenizer is None
    assert without_tokenizer.max_tokens == 64


def test_the_positions_of_roberta_are_two_fewer_than_its_table(checkpoint: Checkpoint) -> None:
    backbone = load_text(checkpoint("roberta", max_position_embeddings=40))
    assert backbone.max_positions == 38
    assert backbone.max_tokens == 38


def test_parameters_are_counted_where_the_output_depends_on_them(tiny_backbone: Path) -> None:
    backbone = load_backbone(str(tiny_backbone))
    parameters = dict(backbone.module.model.named_parameters())
    pooler = sum(parameter.numel() for name, parameter in parameters.items() if name.startswith("pooler"))
    assert pooler > 0
    assert backbone.num_parameters == sum(parameter.numel() for parameter in parameters.values()) - pooler


def test_the_fingerprint_is_that_of_the_weights_not_of_the_files(checkpoint: Checkpoint, tmp_path: Path) -> None:
    first = checkpoint("bert", name="first")
    network: Any = load_backbone(str(first)).module.model
    network.save_pretrained(tmp_path / "again")
    network.save_pretrained(tmp_path / "sharded", max_shard_size="20KB")
    torch.save(network.state_dict(), tmp_path / "again" / "pytorch_model.bin")
    (tmp_path / "again" / "model.safetensors").unlink()
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 1
    assert fingerprint(tmp_path / "again") == fingerprint(tmp_path / "sharded") == fingerprint(first)


def test_the_fingerprint_is_the_same_for_the_task_named_and_by_default(checkpoint: Checkpoint) -> None:
    folder = checkpoint("bert", "text-classification")
    assert fingerprint(folder) == fingerprint(folder, "text-classification")
    assert fingerprint(folder) != fingerprint(folder, "feature-extraction")


def test_the_fingerprint_changes_with_one_bit_of_any_weight_that_is_read(checkpoint: Checkpoint) -> None:
    folder = checkpoint("bert", num_hidden_layers=1)
    path = folder / "model.safetensors"
    weights = load_file(path)
    fingerprints = {fingerprint(folder)}
    read = [name for name in weights if "pooler" not in name]
    for name in read:
        changed = weights[name].clone()
        changed.view(torch.int32).view(-1)[-1] ^= 1
        save_file(weights | {name: changed}, path, metadata={"format": "pt"})
        fingerprints.add(fingerprint(folder))
    assert len(fingerprints) == 1 + len(read)


def test_the_fingerprint_does_not_depend_on_a_pooler_that_nothing_reads(checkpoint: Checkpoint) -> None:
    folder = checkpoint("bert")
    before = fingerprint(folder)
    path = folder / "model.safetensors"
    weights = load_file(path)
    weights["pooler.dense.weight"] += 1
    save_file(weights, path, metadata={"format": "pt"})
    assert fingerprint(folder) == before


def test_the_fingerprint_depends_on_a_pooler_that_the_head_reads(checkpoint: Checkpoint) -> None:
    folder = checkpoint("bert", "text-classification")
    before = fingerprint(folder)
    path = folder / "model.safetensors"
    weights = load_file(path)
    weights["bert.pooler.dense.weight"][0, 0] += 1
    save_file(weights, path, metadata={"format": "pt"})
    assert fingerprint(folder) != before


def test_loading_leaves_the_log_level_of_transformers_as_it_was(tiny_backbone: Path, tmp_path: Path) -> None:
    logger = logging.getLogger("transformers")
    before = logger.level
    load_backbone(str(tiny_backbone))
    with pytest.raises(BackboneError):
        load_backbone(str(tmp_path / "nowhere"))
    assert logger.level == before


def test_half_precision_checkpoints_are_computed_in_single_precision(checkpoint: Checkpoint, tmp_path: Path) -> None:
    network = AutoModelForSequenceClassification.from_pretrained(checkpoint("bert", "text-classification"))
    network.half().save_pretrained(tmp_path / "half")
    module = load_backbone(str(tmp_path / "half")).module
    assert {parameter.dtype for parameter in module.parameters()} == {torch.float32}


def test_hub_options_have_transformers_names() -> None:
    options = LoadOptions(revision="v2", trust_remote_code=True, cache_dir="cache")
    assert options.arguments() == {"revision": "v2", "trust_remote_code": True, "cache_dir": "cache"}
    assert LoadOptions().arguments()["revision"] == "main"
