"""A language model's prompt trained by PEFT gives the same outputs on the engines, in transformers and in PEFT."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

from edge_prompt_export import export_adapter, import_adapter
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.generation.results import Generation
from tests.known_faults import PEFT_GENERATES_WRONG_TOKENS
from tests.transformers_reference import greedy, token_logits

LENGTH, TOLERANCE = 5, 1e-4
SHARED = {"task_type": "CAUSAL_LM", "num_virtual_tokens": LENGTH}
CONFIGS: dict[str, Callable[[], peft.PeftConfig]] = {
    "prompt tuning": lambda: peft.PromptTuningConfig(**SHARED),
    "p-tuning": lambda: peft.PromptEncoderConfig(**SHARED, encoder_hidden_size=16),
    "prefix tuning": lambda: peft.PrefixTuningConfig(**SHARED),
    "prefix tuning, projected": lambda: peft.PrefixTuningConfig(
        **SHARED, prefix_projection=True, encoder_hidden_size=16
    ),
    "cartridge": lambda: peft.CartridgeConfig(**SHARED),
}
CASES = [
    *((model_type, name) for model_type in ("gpt2", "llama", "qwen2") for name in CONFIGS),
    *((model_type, name) for model_type in ("opt", "gemma3_text") for name in ("prompt tuning", "prefix tuning")),
]
IDS = np.random.default_rng(2).integers(3, 120, (3, 9))
MASK = (np.arange(9) < np.array([[9], [6], [2]])).astype(np.int64)


def assert_same(found: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> None:
    found, wanted = found[MASK > 0], wanted[MASK > 0]
    assert np.abs(found - wanted).max() <= TOLERANCE * max(1, np.abs(wanted).max())


class Tuned(NamedTuple):
    """A network, PEFT's model of it, the adapter saved by PEFT, and the imported prompt."""

    network: Any
    model: Any
    bundle: Path
    written: Path

    def kind_and_array(self) -> tuple[str, np.ndarray[Any, Any]]:
        """The prompt that PEFT passes to its network, with the axes of a prompt file."""
        with torch.no_grad():
            prompt = self.model.get_prompt(1)
        if isinstance(prompt, torch.Tensor):
            return "soft", prompt[0].numpy()
        return "prefix", torch.stack([torch.stack([part.keys[0], part.values[0]]) for part in prompt.layers]).numpy()


@pytest.fixture
def tuned(
    model_type: str,
    name: str,
    language_model: Callable[[str], Path],
    language_bundle: Callable[[str], Path],
    tmp_path: Path,
) -> Tuned:
    base, bundle = language_model(model_type), language_bundle(model_type)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), CONFIGS[name]()).eval()
    model.save_pretrained(tmp_path / "adapter")
    (written,) = import_adapter(tmp_path / "adapter", bundle=bundle, output=tmp_path / "task.npy")
    return Tuned(AutoModelForCausalLM.from_pretrained(base), model, bundle, written)


def logits_of(model: Any) -> np.ndarray[Any, Any]:
    """The logits at the tokens, without those that PEFT returns for virtual tokens."""
    with torch.no_grad():
        logits = model(input_ids=torch.from_numpy(IDS), attention_mask=torch.from_numpy(MASK)).logits
    return np.asarray(logits[:, -IDS.shape[1] :].numpy())


def greedy_of(model: Any, tokens: int) -> list[int]:
    ids = torch.from_numpy(IDS[:1])
    with torch.no_grad():
        generated = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            do_sample=False,
            pad_token_id=0,
        )
    return [int(token) for token in generated[0, -tokens:]]


@pytest.mark.parametrize(("model_type", "name"), CASES)
def test_a_prompt_answers_here_as_in_transformers(tuned: Tuned) -> None:
    kind, array = tuned.kind_and_array()
    wanted, text = token_logits(tuned.network, kind, array, IDS, MASK), greedy(tuned.network, kind, array, IDS[:1], 12)
    assert np.abs(wanted - logits_of(tuned.network))[MASK > 0].max() > 1e-2
    for engine in ("onnxruntime", "openvino"):
        runtime = Runtime(tuned.bundle, engine=engine)
        runtime.load("task", tuned.written)
        assert_same(runtime.infer({"input_ids": IDS, "attention_mask": MASK}, task="task")["logits"], wanted)
        answer = runtime.generate(IDS[0], task="task", max_new_tokens=12, temperature=0)
        assert isinstance(answer, Generation)
        assert list(answer.tokens) == text


@pytest.mark.parametrize(("model_type", "name"), CASES)
def test_a_prompt_answers_in_peft_as_in_transformers_there_and_back(tuned: Tuned, tmp_path: Path) -> None:
    wanted = token_logits(tuned.network, *tuned.kind_and_array(), IDS, MASK)
    assert_same(logits_of(tuned.model), wanted)
    back = export_adapter(tuned.written, bundle=tuned.bundle, output=tmp_path / "back")
    assert_same(logits_of(peft.PeftModel.from_pretrained(tuned.network, back).eval()), wanted)


RIGHT_BY_CHANCE = "gemma3_text"
"""The network whose likeliest tokens are the same without the prompt."""


@pytest.mark.filterwarnings("ignore:Position ids are not supported:UserWarning")  # PEFT itself passes them
@pytest.mark.parametrize(
    ("model_type", "name"),
    [pytest.param(*case, marks=[] if case[0] == RIGHT_BY_CHANCE else [PEFT_GENERATES_WRONG_TOKENS]) for case in CASES],
)
def test_peft_generates_the_tokens_of_transformers(tuned: Tuned) -> None:
    kind, array = tuned.kind_and_array()
    assert greedy_of(tuned.model, 12) == greedy(tuned.network, kind, array, IDS[:1], 12)
