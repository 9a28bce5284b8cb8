"""A classifier trained by PEFT gives the same answers on the engines, in transformers, and again in PEFT."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import peft
import pytest
import torch
from transformers import AutoModelForSequenceClassification

from edge_prompt_export import export_adapter, import_adapter
from edge_prompt_runtime import Runtime
from tests.known_faults import PEFT_FINDS_NO_CACHE
from tests.transformers_reference import outputs_under

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


class Tuned(NamedTuple):
    """PEFT's model with its classifier, the bundle of its network, and the imported adapter."""

    model: Any
    bundle: Path
    written: Path

    def by_transformers(self, model_type: str) -> np.ndarray[Any, Any]:
        """The logits of transformers alone."""
        with torch.no_grad():
            prompt = self.model.get_prompt(1)
        if isinstance(prompt, torch.Tensor):
            kind, array = "soft", prompt[0].numpy()
        else:
            parts = [torch.stack([part.keys[0], part.values[0]]) for part in prompt.layers]
            kind, array = "prefix", torch.stack(parts).numpy()
        network = self.model.get_base_model()
        given = arrays(model_type)
        outputs = outputs_under(network, kind, array, given["input_ids"], given["attention_mask"])
        return np.asarray(outputs.logits.numpy())


@pytest.fixture
def tuned(
    model_type: str,
    name: str,
    classifier_model: Callable[..., Any],
    encoder_bundle: Callable[[str], Path],
    tmp_path: Path,
) -> Tuned:
    config = CONFIGS[name]()
    for key, value in WHAT_PEFT_MUST_BE_TOLD.get(model_type, {}).items():
        setattr(config, key, value)
    model = classifier_model(model_type, config)
    model.save_pretrained(tmp_path / "adapter")
    bundle = encoder_bundle(model_type)
    (written,) = import_adapter(tmp_path / "adapter", bundle=bundle, output=tmp_path / "task.npy")
    return Tuned(model, bundle, written)


@pytest.mark.parametrize(("model_type", "name"), CASES)
def test_a_classifier_answers_here_as_in_transformers(tuned: Tuned, model_type: str) -> None:
    wanted = tuned.by_transformers(model_type)
    for engine in ("onnxruntime", "openvino"):
        runtime = Runtime(tuned.bundle, engine=engine)
        runtime.load("task", tuned.written)
        head = runtime.task("task").head
        assert head is not None
        assert_same(head.logits(runtime.infer(arrays(model_type), task="task")["features"]), wanted)
        scores = np.exp(wanted - wanted.max(1, keepdims=True))
        scores /= scores.sum(1, keepdims=True)
        answers = runtime.classify(arrays(model_type), task="task")
        assert [answer.label for answer in answers] == [f"LABEL_{best}" for best in wanted.argmax(1)]
        assert_same(np.array([list(answer.scores.values()) for answer in answers]), scores)


@pytest.mark.parametrize(("model_type", "name"), CASES)
def test_an_adapter_survives_the_round_trip(tuned: Tuned, tmp_path: Path) -> None:
    back = export_adapter(tuned.written, bundle=tuned.bundle, output=tmp_path / "back")
    (again,) = import_adapter(back, bundle=tuned.bundle, output=tmp_path / "again.npy")
    assert again.read_bytes() == tuned.written.read_bytes()
    assert again.with_name("again.head.npz").read_bytes() == tuned.written.with_name("task.head.npz").read_bytes()


PREFIXES = ("prefix tuning", "prefix tuning, projected", "cartridge")


@pytest.mark.parametrize(
    ("model_type", "name"),
    [pytest.param(*case, marks=[PEFT_FINDS_NO_CACHE] if case[1] in PREFIXES else []) for case in CASES],
)
def test_a_classifier_answers_in_peft_as_in_transformers_there_and_back(
    tuned: Tuned, model_type: str, encoder: Callable[[str], Path], tmp_path: Path
) -> None:
    wanted = tuned.by_transformers(model_type)
    assert_same(logits_of(tuned.model, model_type), wanted)
    back = export_adapter(tuned.written, bundle=tuned.bundle, output=tmp_path / "back")
    network = AutoModelForSequenceClassification.from_pretrained(encoder(model_type), num_labels=CLASSES)
    assert_same(logits_of(peft.PeftModel.from_pretrained(network, back).eval(), model_type), wanted)
