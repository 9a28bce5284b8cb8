"""Invalid adapters: each raises an error of one sentence, and nothing is written."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from safetensors.numpy import load_file, save_file
from transformers import AutoModel

from edge_prompt import read_prompt
from edge_prompt.base.errors import AdapterError, EdgePromptError, HeadError, InputError, MissingFileError
from edge_prompt_export import import_adapter

Edit = Callable[..., None]


@pytest.fixture
def bundle(encoder_bundle: Callable[[str], Path]) -> Path:
    return encoder_bundle("bert")


@pytest.fixture
def refused(adapter: Path, bundle: Path, tmp_path: Path) -> Callable[..., str]:
    """The message of the error that an adapter raises."""

    def message(error: type[EdgePromptError] = AdapterError, **options: Any) -> str:
        with pytest.raises(error) as caught:
            import_adapter(adapter, **{"bundle": bundle, "output": tmp_path / "task.npy", **options})
        assert not list(tmp_path.glob("task*"))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return message


def edit_config(adapter: Path, **changes: Any) -> None:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def edit_tensors(adapter: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = adapter / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def test_a_classifier_comes_with_its_prompt(adapter: Path, bundle: Path, tmp_path: Path) -> None:
    tensors = load_file(adapter / "adapter_model.safetensors")
    (path,) = import_adapter(
        adapter,
        bundle=bundle,
        output=tmp_path / "task.npy",
        labels=("a", "b", "c"),
        template="Review: {text}",
        max_tokens=20,
    )
    prompt = read_prompt(path)
    assert prompt.head is not None
    np.testing.assert_array_equal(prompt.head.weight, tensors["base_model.classifier.weight"])
    np.testing.assert_array_equal(prompt.head.bias, tensors["base_model.classifier.bias"])
    assert prompt.card is not None
    assert (prompt.card.labels, prompt.card.template, prompt.card.max_tokens) == (
        ("a", "b", "c"),
        "Review: {text}",
        20,
    )


@pytest.mark.parametrize(
    "config",
    [
        peft.LoraConfig(target_modules=["query"]),
        peft.IA3Config(target_modules=["query"], feedforward_modules=[]),
        peft.AdaLoraConfig(target_modules=["query"], total_step=3),
        peft.VeraConfig(target_modules=["query"]),
        peft.OFTConfig(target_modules=["query"], oft_block_size=4),
    ],
    ids=lambda config: config.peft_type.value,
)
def test_an_adapter_that_is_no_prompt_is_refused_by_name(
    config: peft.PeftConfig, encoder: Callable[[str], Path], bundle: Path, tmp_path: Path
) -> None:
    model = peft.get_peft_model(AutoModel.from_pretrained(encoder("bert")), config)
    model.save_pretrained(tmp_path / "other")
    with pytest.raises(AdapterError, match=rf"an adapter of type {config.peft_type.value}; .*merge_and_unload"):
        import_adapter(tmp_path / "other", bundle=bundle, output=tmp_path / "task.npy")


@pytest.mark.parametrize(
    ("missing", "found"),
    [
        (["adapter_config.json"], "only adapter_model.safetensors"),
        (["adapter_model.safetensors"], "only adapter_config.json"),
        (["adapter_config.json", "adapter_model.safetensors"], "no adapter in it"),
    ],
)
def test_half_an_adapter_is_refused(adapter: Path, refused: Callable[..., str], missing: list[str], found: str) -> None:
    for name in missing:
        (adapter / name).unlink()
    assert found in refused(MissingFileError)


def test_a_missing_folder_is_named(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="nowhere: no such folder"):
        import_adapter(tmp_path / "nowhere", bundle=bundle, output=tmp_path / "task.npy")


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"peft_type": None}, "'peft_type' is NoneType"),
        ({"peft_type": "x" * 500}, f"an adapter of type {'x' * 40};"),
        ({"num_virtual_tokens": 6}, "has shape [5, 128]; expected [6, 128]"),
        ({"num_virtual_tokens": 0}, "'num_virtual_tokens' is 0"),
        ({"num_virtual_tokens": 62}, "62 virtual tokens; expected at most 61, so that a text fits into"),
        ({"num_virtual_tokens": "5"}, "'num_virtual_tokens' is str"),
        ({"num_layers": 3}, "a prefix of 3 layers, 4 heads"),
        ({"num_attention_heads": 2}, "a prefix of 2 layers, 2 heads"),
        ({"token_dim": 64}, "a key width of 64; expected 2, 4 and 32"),
        ({"num_transformer_submodules": 3}, "num_transformer_submodules 3"),
        ({"task_type": "TOKEN_CLS"}, "saved by a TOKEN_CLS adapter"),
        ({"base_model_name_or_path": "org/another"}, "an adapter for 'org/another'; expected one for 'adapted_bert'"),
        ({"base_model_name_or_path": 3}, "'base_model_name_or_path' is int"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(
    adapter: Path, refused: Callable[..., str], changes: dict[str, Any], found: str
) -> None:
    edit_config(adapter, **changes)
    assert found in refused()


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda tensors: tensors.pop("prompt_embeddings"), "no tensor 'prompt_embeddings', but base_model.classifier"),
        (
            lambda tensors: tensors.update(prompt_embedding=tensors.pop("prompt_embeddings")),
            "no tensor 'prompt_embeddings'",
        ),
        (
            lambda tensors: tensors.update(prompt_embeddings=tensors["prompt_embeddings"][:4]),
            "[4, 128]; expected [5, 128]",
        ),
        (lambda tensors: tensors["prompt_embeddings"].__setitem__((0, 0), np.nan), "NaN or infinity"),
        (
            lambda tensors: tensors.update(prompt_embeddings=tensors["prompt_embeddings"].astype(np.int64)),
            "prompt_embeddings: dtype I64",
        ),
        (
            lambda tensors: tensors.update(prompt_embeddings=np.full((5, 128), 1e300)),
            "prompt_embeddings: NaN or infinity; expected finite numbers in float32",
        ),
        (lambda tensors: tensors.pop("base_model.classifier.bias"), "expected classifier.weight, classifier.bias"),
        (lambda tensors: tensors.update({"base_model.embeddings.weight": np.ones(3)}), "embeddings.weight"),
        (
            lambda tensors: tensors.update({"base_model.classifier.weight": np.ones((3, 31), np.float32)}),
            "shape [3, 31]; expected [3, 32]",
        ),
        (
            lambda tensors: tensors.update({"base_model.classifier.bias": np.ones(2, np.float32)}),
            "shape [2]; expected [3]",
        ),
        (lambda tensors: tensors["base_model.classifier.bias"].__setitem__(0, np.inf), "NaN or infinity"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    adapter: Path, refused: Callable[..., str], change: Callable[[dict[str, Any]], object], found: str
) -> None:
    edit_tensors(adapter, change)
    assert found in refused()


@pytest.mark.parametrize(
    ("options", "error", "found"),
    [
        ({"labels": ("a", "b")}, HeadError, "2 labels for .*; expected 3"),
        ({"labels": ("a", "b", "b")}, HeadError, "2 distinct labels"),
        ({"template": "no field"}, InputError, "the template 'no field'"),
        ({"max_tokens": 2}, InputError, "max_tokens 2; expected 3 or more"),
        ({"task_index": 1}, InputError, "task 1 of"),
    ],
)
def test_impossible_options_are_refused(
    refused: Callable[..., str], options: dict[str, Any], error: type[EdgePromptError], found: str
) -> None:
    with pytest.raises(error, match=found):
        raise error(found=refused(error, **options), wanted="", remedy="")


def test_an_output_that_is_no_prompt_file_is_refused(adapter: Path, bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected a name that ends in \.npy"):
        import_adapter(adapter, bundle=bundle, output=tmp_path / "task")


def test_an_image_bundle_takes_no_adapter(refused: Callable[..., str], tiny_image_bundle: Path) -> None:
    assert "whose backbone takes no text" in refused(bundle=tiny_image_bundle)


def test_a_missing_bundle_is_named(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "no such folder" in refused(MissingFileError, bundle=tmp_path / "nowhere")


def test_a_bundle_that_takes_no_prefix_says_why(
    refused: Callable[..., str], manifest_only: Callable[..., Path]
) -> None:
    bundle = manifest_only("adapted_bert", {"soft": (None, 32)})
    assert "a PREFIX_TUNING adapter, which is a prefix prompt; expected one that this bundle takes, soft" in refused(
        bundle=bundle
    )


def test_a_soft_prompt_of_another_width_is_refused(
    classifier_model: Callable[..., Any], manifest_only: Callable[..., Path], tmp_path: Path
) -> None:
    config = peft.PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=5)
    classifier_model("bert", config).save_pretrained(tmp_path / "soft")
    with pytest.raises(AdapterError, match=r"virtual tokens of width 32; expected soft \[num_virtual_tokens, 48\]"):
        import_adapter(
            tmp_path / "soft", bundle=manifest_only("adapted_bert", {"soft": (None, 48)}), output=tmp_path / "task.npy"
        )


def test_a_classifier_that_reads_another_feature_says_how_to_export(
    refused: Callable[..., str], manifest_only: Callable[..., Path]
) -> None:
    bundle = manifest_only("adapted_bert", {"prefix": (2, 2, 4, None, 8)})
    message = refused(bundle=bundle)
    assert "which reads the feature 'pooler', and a bundle that provides mean" in message
    assert message.endswith("Export the network with --pooling pooler")


def test_a_classifier_of_an_unknown_architecture_is_refused(
    refused: Callable[..., str], manifest_only: Callable[..., Path]
) -> None:
    bundle = manifest_only("adapted_bert", {"prefix": (2, 2, 4, None, 8)}, model_type="llama")
    assert "a classifier (base_model.classifier.bias, base_model.classifier.weight) of 'llama'" in refused(
        bundle=bundle
    )


def test_a_renamed_base_is_accepted_with_the_flag(adapter: Path, bundle: Path, tmp_path: Path) -> None:
    edit_config(adapter, base_model_name_or_path="org/another", revision="v2")
    (path,) = import_adapter(adapter, bundle=bundle, output=tmp_path / "task.npy", base_renamed=True)
    card = read_prompt(path).card
    assert card is not None
    assert (card.provenance["base_model"], card.provenance["revision"]) == ("org/another", "v2")


def test_sizes_are_checked_under_another_name_too(adapter: Path, refused: Callable[..., str]) -> None:
    edit_config(adapter, base_model_name_or_path="org/another", num_layers=3)
    assert "a prefix of 3 layers" in refused(base_renamed=True)


def test_tensors_as_older_versions_named_them_are_found(adapter: Path, bundle: Path, tmp_path: Path) -> None:
    (new,) = import_adapter(adapter, bundle=bundle, output=tmp_path / "new.npy")
    edit_tensors(
        adapter,
        lambda tensors: [
            tensors.update({f"base_model.classifier.modules_to_save.default.{part}": tensors.pop(name)})
            for part in ("weight", "bias")
            for name in [f"base_model.classifier.{part}"]
        ],
    )
    (old,) = import_adapter(adapter, bundle=bundle, output=tmp_path / "old.npy")
    assert old.with_name("old.head.npz").read_bytes() == new.with_name("new.head.npz").read_bytes()


def test_importing_needs_no_torch(adapter: Path, bundle: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom edge_prompt_export import import_adapter\n"
        f"import_adapter({str(adapter)!r}, bundle={str(bundle)!r}, output={str(tmp_path / 'task.npy')!r})\n"
        "print(*sys.modules)"
    )
    result = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "onnx"} & set(result.stdout.split())
    assert (tmp_path / "task.npy").exists()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_read_exactly(dtype: str, adapter: Path, bundle: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file as load_torch
    from safetensors.torch import save_file as save_torch

    path = adapter / "adapter_model.safetensors"
    tensors = {name: tensor.to(getattr(torch, dtype)) for name, tensor in load_torch(path).items()}
    save_torch(tensors, path)
    (written,) = import_adapter(adapter, bundle=bundle, output=tmp_path / "task.npy")
    prompt = read_prompt(written)
    assert prompt.array.dtype == (np.float16 if dtype == "float16" else np.float32)
    wanted = tensors["prompt_embeddings"].float().numpy().reshape(5, 2, 2, 4, 8).transpose(1, 2, 3, 0, 4)
    np.testing.assert_array_equal(prompt.array.astype(np.float32), wanted)


def test_importing_does_not_need_peft(adapter: Path, bundle: Path, tmp_path: Path) -> None:
    (wanted,) = import_adapter(adapter, bundle=bundle, output=tmp_path / "expected.npy")
    code = (
        "import sys; sys.modules['peft'] = None\n"
        "from edge_prompt.cli import main\n"
        "sys.argv = ['edge-prompt', 'import', *sys.argv[1:]]; main()"
    )
    command = [sys.executable, "-c", code, str(adapter), "--bundle", str(bundle), "-o", str(tmp_path / "found.npy")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "found.npy").read_bytes() == wanted.read_bytes()
