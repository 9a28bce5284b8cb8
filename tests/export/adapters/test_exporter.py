"""Exported prompts open in PEFT and give the same outputs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from edge_prompt import Dense, Head, read_bundle, write_prompt
from edge_prompt.base.errors import AdapterError, FingerprintError, PromptShapeError, WriteError
from edge_prompt_export import export_adapter, import_adapter
from edge_prompt_runtime import Runtime
from tests.known_faults import PEFT_FINDS_NO_CACHE

RANDOM = np.random.default_rng(0)
IDS = RANDOM.integers(3, 120, (2, 7))
TOLERANCE = 1e-4
CLASSIFIER_KINDS = ["soft", pytest.param("prefix", marks=PEFT_FINDS_NO_CACHE)]


def floats(*shape: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return RANDOM.standard_normal(shape, dtype=np.float32)


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """A random prompt for a bundle: `write(bundle, "soft", head=…)`."""

    def written(bundle: Path, kind: str, length: int = 4, **card: Any) -> Path:
        manifest = read_bundle(bundle).manifest
        shape = [length if axis is None else axis for axis in manifest.kinds[kind]]
        write_prompt(tmp_path / "task.npy", floats(*shape), kind, manifest.backbone.fingerprint, **card)
        return tmp_path / "task.npy"

    return written


def assert_same(found: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> None:
    assert np.abs(found - wanted).max() <= TOLERANCE * max(1, np.abs(wanted).max())


@pytest.mark.parametrize("kind", CLASSIFIER_KINDS)
@pytest.mark.parametrize("model_type", ["bert", "roberta"])
def test_a_prompt_with_a_linear_head_opens_as_a_classifier(
    model_type: str,
    kind: str,
    encoder: Callable[[str], Path],
    encoder_bundle: Callable[[str], Path],
    write: Callable[..., Path],
    tmp_path: Path,
) -> None:
    bundle = encoder_bundle(model_type)
    head = Head(floats(3, 32), floats(3))
    path = write(bundle, kind, head=head, labels=("a", "b", "c"), template="Say: {text}")
    folder = export_adapter(path, bundle=bundle, output=tmp_path / "adapter")
    network = AutoModelForSequenceClassification.from_pretrained(encoder(model_type), num_labels=3)
    model = peft.PeftModel.from_pretrained(network, folder).eval()
    with torch.no_grad():
        found = model(input_ids=torch.from_numpy(IDS), attention_mask=torch.ones(2, 7).long()).logits.numpy()
    runtime = Runtime(bundle)
    runtime.load("task", path)
    assert_same(found, head.logits(runtime.infer({"input_ids": IDS}, task="task")["features"]))
    readme = (folder / "README.md").read_text()
    assert "`a`, `b`, `c`" in readme
    assert "Say: {text}" in readme


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("kind", ["soft", "prefix"])
def test_a_prompt_without_a_head_opens_for_features(
    kind: str, dtype: Any, tiny_backbone: Path, tiny_bundle: Path, make_prompt: Callable[..., Path], tmp_path: Path
) -> None:
    path = make_prompt("plain", kind)
    array = np.load(path).astype(dtype)
    write_prompt(path, array, kind, read_bundle(tiny_bundle).manifest.backbone.fingerprint)
    folder = export_adapter(path, bundle=tiny_bundle, output=tmp_path / "adapter")
    model = peft.PeftModel.from_pretrained(AutoModel.from_pretrained(tiny_backbone), folder).eval()
    with torch.no_grad():
        output = model(input_ids=torch.from_numpy(IDS), attention_mask=torch.ones(2, 7).long())
    runtime = Runtime(tiny_bundle)
    runtime.load("task", path)
    wanted = runtime.infer({"input_ids": IDS}, task="task")["last_hidden_state"]
    assert_same(output.last_hidden_state[:, -7:].numpy(), wanted)


@pytest.mark.parametrize("kind", ["soft", "prefix"])
def test_a_prompt_through_the_networks_own_head_opens_with_it(
    kind: str, tiny_classifier: Path, tiny_classifier_bundle: Path, make_prompt: Callable[..., Path], tmp_path: Path
) -> None:
    path = make_prompt("own", kind, bundle=tiny_classifier_bundle)
    folder = export_adapter(path, bundle=tiny_classifier_bundle, output=tmp_path / "adapter")
    network = AutoModelForSequenceClassification.from_pretrained(tiny_classifier)
    model = peft.PeftModel.from_pretrained(network, folder).eval()
    with torch.no_grad():
        found = model(input_ids=torch.from_numpy(IDS), attention_mask=torch.ones(2, 7).long()).logits.numpy()
    runtime = Runtime(tiny_classifier_bundle)
    runtime.load("task", path)
    assert_same(found, runtime.infer({"input_ids": IDS}, task="task")["logits"])


@pytest.mark.parametrize("kind", ["soft", "prefix"])
@pytest.mark.parametrize(("model_type", "heads"), [("gpt2", 4), ("llama", 2), ("qwen2", 2)])
def test_a_prompt_of_a_language_model_is_what_peft_feeds_it(
    model_type: str,
    heads: int,
    kind: str,
    language_model: Callable[[str], Path],
    manifest_only: Callable[..., Path],
    write: Callable[..., Path],
    tmp_path: Path,
) -> None:
    kinds = {"soft": (None, 32), "prefix": (2, 2, heads, None, 8)}
    bundle = manifest_only(f"adapted_{model_type}", kinds, model_type=model_type, task="text-generation")
    path = write(bundle, kind)
    folder = export_adapter(path, bundle=bundle, output=tmp_path / "adapter", base="org/base")
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["task_type"], config["base_model_name_or_path"]) == ("CAUSAL_LM", "org/base")
    network = AutoModelForCausalLM.from_pretrained(language_model(model_type))
    model = peft.PeftModel.from_pretrained(network, folder)
    with torch.no_grad():
        prompt = model.get_prompt(1)
    found = prompt[0] if kind == "soft" else torch.stack([torch.stack([x.keys[0], x.values[0]]) for x in prompt.layers])
    np.testing.assert_array_equal(found.numpy(), np.load(path))


def test_peft_reads_the_configuration_without_a_warning(
    tiny_bundle: Path, make_prompt: Callable[..., Path], tmp_path: Path
) -> None:
    for kind in ("soft", "prefix"):
        folder = export_adapter(make_prompt(kind, kind), bundle=tiny_bundle, output=tmp_path / f"to_{kind}")
        config = peft.PeftConfig.from_pretrained(str(folder))
        assert config.num_virtual_tokens == 5
        assert config.base_model_name_or_path == "tiny_backbone"


def test_an_adapter_of_ours_is_refused_on_other_weights(
    tiny_bundle: Path, encoder_bundle: Callable[[str], Path], make_prompt: Callable[..., Path], tmp_path: Path
) -> None:
    folder = export_adapter(make_prompt("x", "prefix"), bundle=tiny_bundle, output=tmp_path / "adapter")
    with pytest.raises(AdapterError, match="was made for a backbone of fingerprint"):
        import_adapter(folder, bundle=encoder_bundle("bert"), output=tmp_path / "task.npy", base_renamed=True)


HEADS = {
    "another feature": ("tiny_bundle", Head(floats(3, 32), floats(3)), "reads the feature 'pooler', and a bundle"),
    "a dense layer": (
        "bert",
        Head(floats(3, 32), floats(3), Dense(floats(32, 32), floats(32), "tanh")),
        "tanh over a dense layer of width 32 for 32 features; expected no dense layer",
    ),
    "another activation": (
        "roberta",
        Head(floats(3, 32), floats(3), Dense(floats(32, 32), floats(32), "gelu")),
        "gelu over a dense layer of width 32 for 32 features; expected tanh",
    ),
    "another width": (
        "roberta",
        Head(floats(3, 16), floats(3), Dense(floats(16, 32), floats(16), "tanh")),
        "tanh over a dense layer of width 16 for 32 features; expected tanh over a dense layer of width 32",
    ),
    "no dense layer where gelu stands": ("electra", Head(floats(3, 32), floats(3)), "a head with no dense layer"),
}


@pytest.mark.parametrize("name", HEADS)
def test_a_head_that_does_not_fit_the_network_is_refused(
    name: str, tiny_bundle: Path, encoder_bundle: Callable[[str], Path], write: Callable[..., Path], tmp_path: Path
) -> None:
    model_type, head, found = HEADS[name]
    bundle = tiny_bundle if model_type == "tiny_bundle" else encoder_bundle(model_type)
    with pytest.raises(AdapterError) as caught:
        export_adapter(write(bundle, "prefix", head=head), bundle=bundle, output=tmp_path / "adapter")
    assert found in str(caught.value)
    assert not (tmp_path / "adapter").exists()


def test_a_head_of_an_unknown_architecture_is_refused(
    manifest_only: Callable[..., Path], write: Callable[..., Path], tmp_path: Path
) -> None:
    bundle = manifest_only("x", {"soft": (None, 32)}, model_type="llama")
    path = write(bundle, "soft", head=Head(floats(3, 32), floats(3)))
    with pytest.raises(AdapterError, match="has a head for a backbone of type 'llama'"):
        export_adapter(path, bundle=bundle, output=tmp_path / "adapter")


def test_a_prompt_of_images_is_refused(
    tiny_image_bundle: Path, make_prompt: Callable[..., Path], tmp_path: Path
) -> None:
    for kind in ("deep", "soft", "pixel"):
        path = make_prompt(kind, kind, bundle=tiny_image_bundle)
        with pytest.raises(AdapterError, match=f"a {kind} prompt for image-classification"):
            export_adapter(path, bundle=tiny_image_bundle, output=tmp_path / "adapter")


def test_a_prompt_of_other_weights_or_sizes_is_refused(
    tiny_bundle: Path, encoder_bundle: Callable[[str], Path], make_prompt: Callable[..., Path], tmp_path: Path
) -> None:
    path = make_prompt("x", "soft")
    with pytest.raises(FingerprintError):
        export_adapter(path, bundle=encoder_bundle("bert"), output=tmp_path / "adapter")
    path.with_suffix(".json").unlink()
    np.save(path, floats(4, 31))
    with pytest.raises(PromptShapeError):
        export_adapter(path, bundle=tiny_bundle, output=tmp_path / "adapter")


def test_an_existing_folder_is_not_overwritten(
    tiny_bundle: Path, make_prompt: Callable[..., Path], tmp_path: Path
) -> None:
    path = make_prompt("x", "soft")
    export_adapter(path, bundle=tiny_bundle, output=tmp_path / "adapter")
    with pytest.raises(WriteError, match="already exists"):
        export_adapter(path, bundle=tiny_bundle, output=tmp_path / "adapter")
