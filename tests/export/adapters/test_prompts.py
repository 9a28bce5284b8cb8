"""Imported arrays equal those that PEFT itself computes, for every type of prompt and several networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, T5Config, T5EncoderModel, T5ForConditionalGeneration

from edge_prompt import read_prompt
from edge_prompt.base.errors import AdapterError, InputError
from edge_prompt_export import import_adapter

LENGTH = 5
KV_HEADS = {"gpt2": 4, "llama": 2, "qwen2": 2}
SHARED = {"task_type": "CAUSAL_LM", "num_virtual_tokens": LENGTH}
CONFIGS: dict[str, Callable[[], peft.PeftConfig]] = {
    "PROMPT_TUNING": lambda: peft.PromptTuningConfig(**SHARED),
    "P_TUNING": lambda: peft.PromptEncoderConfig(**SHARED, encoder_hidden_size=16),
    "PREFIX_TUNING": lambda: peft.PrefixTuningConfig(**SHARED),
    "PREFIX_TUNING projected": lambda: peft.PrefixTuningConfig(
        **SHARED, prefix_projection=True, encoder_hidden_size=16
    ),
    "CARTRIDGE": lambda: peft.CartridgeConfig(**SHARED),
}

ManifestOnly = Callable[..., Path]
Saved = Callable[..., tuple[Any, Path]]


def kinds_of(model_type: str) -> dict[str, Any]:
    return {"soft": (None, 32), "prefix": (2, 2, KV_HEADS[model_type], None, 8)}


@pytest.fixture
def saved(language_model: Callable[[str], Path], tmp_path: Path) -> Saved:
    """PEFT's model of a tiny language model, and the folder of the adapter that PEFT saved."""

    def build(model_type: str, config: peft.PeftConfig, **options: Any) -> tuple[Any, Path]:
        network = AutoModelForCausalLM.from_pretrained(language_model(model_type))
        with torch.random.fork_rng():
            torch.manual_seed(1)
            model = peft.get_peft_model(network, config).eval()
        model.save_pretrained(tmp_path / "adapter", **options)
        return model, tmp_path / "adapter"

    return build


def prompt_of(model: Any, kind: str) -> np.ndarray[Any, Any]:
    """The prompts that PEFT passes to the network, with the axes of a prompt file."""
    with torch.no_grad():
        prompt = model.get_prompt(batch_size=1)
    if kind == "soft":
        return np.asarray(prompt[0].numpy())
    return np.stack([np.stack([layer.keys[0].numpy(), layer.values[0].numpy()]) for layer in prompt.layers])


@pytest.mark.parametrize("old", [False, True], ids=["safetensors", "bin"])
@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("model_type", KV_HEADS)
def test_a_prompt_is_what_peft_feeds_its_network(
    model_type: str, name: str, old: bool, saved: Saved, manifest_only: ManifestOnly, tmp_path: Path
) -> None:
    model, adapter = saved(model_type, CONFIGS[name](), safe_serialization=not old)
    assert (adapter / "adapter_model.bin").exists() is old
    bundle = manifest_only(f"adapted_{model_type}", kinds_of(model_type), model_type=model_type, task="text-generation")
    (path,) = import_adapter(adapter, bundle=bundle, output=tmp_path / "task.npy")
    prompt = read_prompt(path)
    assert prompt.card is not None
    kind = "prefix" if "PREFIX" in name or name == "CARTRIDGE" else "soft"
    assert prompt.card.kind == kind
    np.testing.assert_allclose(prompt.array, prompt_of(model, kind), atol=1e-6)
    assert prompt.head is None
    assert prompt.card.provenance == {
        "imported_from": "PEFT",
        "adapter": "adapter",
        "peft_type": name.partition(" ")[0],
        "task_type": "CAUSAL_LM",
        "base_model": f"adapted_{model_type}",
        "peft_version": peft.__version__,
    }


@pytest.fixture
def multitask(saved: Saved) -> tuple[Any, Path]:
    """An adapter with three tasks whose low-rank factors have a visible effect."""
    config = peft.MultitaskPromptTuningConfig(**SHARED, num_tasks=3, num_ranks=2)
    model, folder = saved("gpt2", config)
    with torch.no_grad():
        for parameter in model.prompt_encoder["default"].parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(parameter))))
    model.save_pretrained(folder)
    return model, folder


def test_each_task_of_a_multitask_prompt_becomes_a_prompt(
    multitask: tuple[Any, Path], manifest_only: ManifestOnly, tmp_path: Path
) -> None:
    model, adapter = multitask
    bundle = manifest_only("adapted_gpt2", kinds_of("gpt2"))
    paths = import_adapter(adapter, bundle=bundle, output=tmp_path / "out" / "task.npy")
    assert [path.name for path in paths] == ["task-0.npy", "task-1.npy", "task-2.npy"]
    for task, path in enumerate(paths):
        with torch.no_grad():
            wanted = model.get_prompt(1, task_ids=torch.tensor([task]))[0].numpy()
        prompt = read_prompt(path)
        np.testing.assert_allclose(prompt.array, wanted, atol=1e-6)
        assert prompt.card is not None
        assert prompt.card.provenance["task_index"] == task
        (alone,) = import_adapter(adapter, bundle=bundle, output=tmp_path / "one.npy", task_index=task)
        assert alone.read_bytes() == path.read_bytes()


def test_a_missing_task_is_refused(multitask: tuple[Any, Path], manifest_only: ManifestOnly, tmp_path: Path) -> None:
    bundle = manifest_only("adapted_gpt2", kinds_of("gpt2"))
    with pytest.raises(InputError, match=r"task 3 of .*adapter; expected an index from 0 to 2"):
        import_adapter(multitask[1], bundle=bundle, output=tmp_path / "task.npy", task_index=3)
    assert not list(tmp_path.glob("task*"))


SEQ2SEQ = {"task_type": "SEQ_2_SEQ_LM", "num_virtual_tokens": LENGTH}
T5 = T5Config(vocab_size=120, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=0)


def t5_adapter(config: peft.PeftConfig, folder: Path) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = peft.get_peft_model(T5ForConditionalGeneration(T5), config).eval()
    model.save_pretrained(folder)
    return model


@pytest.mark.parametrize("config", [peft.PromptTuningConfig, peft.MultitaskPromptTuningConfig])
def test_the_encoders_half_of_an_encoder_decoder_is_imported_and_reported(
    config: Any, manifest_only: ManifestOnly, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = t5_adapter(config(**SEQ2SEQ), tmp_path / "adapter")
    bundle = manifest_only("t5-small", {"soft": (None, 32)}, architecture=T5EncoderModel.__name__)
    with caplog.at_level("WARNING", logger="edge_prompt_export"):
        (path,) = import_adapter(tmp_path / "adapter", bundle=bundle, output=tmp_path / "task.npy")
    assert "the encoder's half is taken" in caplog.text
    prompt = read_prompt(path)
    assert prompt.array.shape == (LENGTH, 32)
    assert prompt.card is not None
    assert prompt.card.provenance["part"] == "encoder"
    task_ids = torch.tensor([0]) if config is peft.MultitaskPromptTuningConfig else None
    with torch.no_grad():
        both = model.get_prompt(1, task_ids=task_ids)[0].numpy()
    np.testing.assert_allclose(prompt.array, both[:LENGTH], atol=1e-6)


def test_a_prefix_of_a_decoder_is_refused(manifest_only: ManifestOnly, tmp_path: Path) -> None:
    t5_adapter(peft.PrefixTuningConfig(**SEQ2SEQ), tmp_path / "adapter")
    bundle = manifest_only("t5-small", {"soft": (None, 32), "prefix": (2, 2, 4, None, 8)})
    with pytest.raises(AdapterError, match="a prefix for the decoder of an encoder-decoder"):
        import_adapter(tmp_path / "adapter", bundle=bundle, output=tmp_path / "task.npy")
