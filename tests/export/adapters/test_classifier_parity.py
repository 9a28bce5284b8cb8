"""A classifier that PEFT trained answers on the engines as it does in PEFT, and again in PEFT on its way back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from edge_prompt_export import export_adapter, import_adapter
from edge_prompt_runtime import Runtime

LENGTH, CLASSES, TOLERANCE = 5, 3, 1e-4
SHARED = {"task_type": "SEQ_CLS", "num_virtual_tokens": LENGTH}
CONFIGS: dict[str, Callable[[], peft.PeftConfig]] = {
    "prompt tuning": lambda: peft.PromptTuningConfig(**SHARED),
    "p-tuning, MLP": lambda: peft.PromptEncoderConfig(**SHARED, encoder_hidden_size=16),
    "p-tuning, LSTM": lambda: peft.PromptEncoderConfig(
        **SHARED, encoder_hidden_size=16, encoder_reparameterization_type="LSTM", encoder_num_layers=1
    ),
    "prefix tuning": lambda: peft.PrefixTuningConfig(**SHARED),
    "prefix tuning, projected": lambda: peft.PrefixTuningConfig(
        **SHARED, prefix_projection=True, encoder_hidden_size=16
    ),
    "cartridge": lambda: peft.CartridgeConfig(**SHARED),
}
CASES = [
    *((model_type, name) for model_type in ("bert", "roberta") for name in CONFIGS),
    ("electra", "prompt tuning"),
    ("distilbert", "prompt tuning"),
]
WHAT_PEFT_MUST_BE_TOLD: dict[str, dict[str, Any]] = {
    "electra": {"token_dim": 16},  # its embeddings are narrower than its hidden states
    "distilbert": {
        "token_dim": 32,
        "num_layers": 2,
        "num_attention_heads": 4,
        "modules_to_save": ["pre_classifier"],
    },
}
IDS = np.random.default_rng(2).integers(3, 120, (3, 9))
MASK = (np.arange(9) < np.array([[9], [6], [2]])).astype(np.int64)


def arrays(model_type: str) -> dict[str, np.ndarray[Any, Any]]:
    """Three rows of different lengths; the rest is padding."""
    padding = 1 if model_type == "roberta" else 0
    return {"input_ids": np.where(MASK > 0, IDS, padding), "attention_mask": MASK}


def logits_of(model: Any, model_type: str) -> np.ndarray[Any, Any]:
    tensors = {name: torch.from_numpy(array) for name, array in arrays(model_type).items()}
    with torch.no_grad():
        return np.asarray(model(**tensors).logits.numpy())


def assert_same(found: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> None:
    assert np.abs(found - wanted).max() <= TOLERANCE * max(1, np.abs(wanted).max())


@pytest.mark.parametrize(("model_type", "name"), CASES)
def test_a_classifier_answers_here_as_in_peft(
    model_type: str,
    name: str,
    classifier_model: Callable[..., Any],
    encoder: Callable[[str], Path],
    encoder_bundle: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    config = CONFIGS[name]()
    for key, value in WHAT_PEFT_MUST_BE_TOLD.get(model_type, {}).items():
        setattr(config, key, value)
    model = classifier_model(model_type, config)
    wanted = logits_of(model, model_type)
    model.save_pretrained(tmp_path / "adapter")
    bundle = encoder_bundle(model_type)
    (written,) = import_adapter(tmp_path / "adapter", bundle=bundle, output=tmp_path / "task.npy")
    for engine in ("onnxruntime", "openvino"):
        runtime = Runtime(bundle, engine=engine)
        runtime.load("task", written)
        head = runtime.task("task").head
        assert head is not None
        assert_same(head.logits(runtime.infer(arrays(model_type), task="task")["features"]), wanted)
        scores = np.exp(wanted - wanted.max(1, keepdims=True))
        scores /= scores.sum(1, keepdims=True)
        answers = runtime.classify(arrays(model_type), task="task")
        assert [answer.label for answer in answers] == [f"LABEL_{best}" for best in wanted.argmax(1)]
        assert_same(np.array([list(answer.scores.values()) for answer in answers]), scores)
    base = encoder(model_type)
    back = export_adapter(written, bundle=bundle, output=tmp_path / "back")
    network = AutoModelForSequenceClassification.from_pretrained(base, num_labels=CLASSES)
    assert_same(logits_of(peft.PeftModel.from_pretrained(network, back).eval(), model_type), wanted)
    (again,) = import_adapter(back, bundle=bundle, output=tmp_path / "again.npy")
    assert again.read_bytes() == written.read_bytes()
    assert again.with_name("again.head.npz").read_bytes() == written.with_name("task.head.npz").read_bytes()
