"""Adapters that PEFT made for a language model and that the model's bundle refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from edge_prompt.base.errors import AdapterError
from edge_prompt_export import import_adapter

Places = Callable[[str], Path]


def refusal(model: Any, bundle: Path, tmp_path: Path) -> str:
    model.save_pretrained(tmp_path / "adapter")
    with pytest.raises(AdapterError) as caught:
        import_adapter(tmp_path / "adapter", bundle=bundle, output=tmp_path / "task.npy")
    assert not list(tmp_path.glob("task*"))
    return str(caught.value)


@pytest.mark.parametrize("config", [peft.PromptTuningConfig, peft.PrefixTuningConfig])
def test_a_prompt_longer_than_the_context(
    config: Any, language_model: Places, language_bundle: Places, tmp_path: Path
) -> None:
    network = AutoModelForCausalLM.from_pretrained(language_model("gpt2"))
    model = peft.get_peft_model(network, config(task_type="CAUSAL_LM", num_virtual_tokens=62))
    found = refusal(model, language_bundle("gpt2"), tmp_path)
    assert "62 virtual tokens; expected at most 61, so that a text fits into this bundle's 64 positions" in found


def test_a_classifier_over_the_last_token(language_model: Places, language_bundle: Places, tmp_path: Path) -> None:
    network = AutoModelForSequenceClassification.from_pretrained(language_model("gpt2"), num_labels=3)
    model = peft.get_peft_model(network, peft.PrefixTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=5))
    found = refusal(model, language_bundle("gpt2"), tmp_path)
    assert "a classifier (base_model.score.weight) of 'gpt2'; expected one of albert, bert" in found


def test_an_adapter_of_another_language_model(language_model: Places, language_bundle: Places, tmp_path: Path) -> None:
    network = AutoModelForCausalLM.from_pretrained(language_model("llama"))
    model = peft.get_peft_model(network, peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5))
    assert "'; expected one for 'adapted_gpt2'" in refusal(model, language_bundle("gpt2"), tmp_path)
    with pytest.raises(AdapterError, match="a prefix of 2 layers, 2 heads of keys and values, and a key width of 16"):
        import_adapter(
            tmp_path / "adapter", bundle=language_bundle("gpt2"), output=tmp_path / "task.npy", base_renamed=True
        )
