"""A prompt made by PEFT gives the same outputs here, in transformers, and in PEFT unless PEFT itself is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import peft
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_prompt_export.modalities.text.network import ConditionedTextEncoder
from tests.known_faults import PEFT_FINDS_NO_CACHE
from tests.transformers_reference import outputs_under

LENGTH = 5
MODEL_TYPES = ("bert", "roberta")
TOLERANCE = 1e-4
SHARED = {"task_type": "SEQ_CLS", "num_virtual_tokens": LENGTH}
CONFIGS = {
    "prompt tuning": peft.PromptTuningConfig(**SHARED),
    "p-tuning, MLP": peft.PromptEncoderConfig(**SHARED, encoder_hidden_size=16),
    "p-tuning, LSTM": peft.PromptEncoderConfig(**SHARED, encoder_reparameterization_type="LSTM", encoder_num_layers=1),
    "prefix tuning": peft.PrefixTuningConfig(**SHARED),
    "prefix tuning, projected": peft.PrefixTuningConfig(**SHARED, prefix_projection=True, encoder_hidden_size=16),
}


TOKENS = np.random.default_rng(3).integers(3, 120, (3, 9))
LENGTHS = {"full rows": [9, 9, 9], "padded rows": [9, 5, 2]}


class Tuned(NamedTuple):
    """A network, PEFT's model of it, and a padded batch."""

    network: Any
    model: Any
    kind: str
    ids: NDArray[Any]
    mask: NDArray[Any]

    def prompt(self) -> NDArray[Any]:
        """PEFT's prompt with the axes of a prompt file; PEFT's blocks 2l and 2l + 1 are the keys and values of layer l.

        A prefix is taken from PEFT's own weights, `[T, 2L * H * Dh]`, not from the cache that PEFT computes from them.
        """
        encoder, numbers = self.model.prompt_encoder["default"], self.model.prompt_tokens["default"][:LENGTH]
        with torch.no_grad():
            rows = encoder(numbers[None])[0]
        if self.kind == "soft":
            return np.asarray(rows)
        config = self.network.config
        heads = config.num_attention_heads
        rows = rows.reshape(LENGTH, 2 * config.num_hidden_layers, heads, config.hidden_size // heads)
        return np.asarray(torch.stack([rows[:, 0::2], rows[:, 1::2]]).permute(2, 0, 3, 1, 4))

    def by_transformers(self) -> Tensor:
        """The logits of transformers alone."""
        logits: Tensor = outputs_under(self.network, self.kind, self.prompt(), self.ids, self.mask).logits
        return logits


@pytest.fixture(params=LENGTHS)
def tuned(request: pytest.FixtureRequest, model_type: str, name: str, tiny_network: Callable[..., Any]) -> Tuned:
    network = tiny_network(model_type, "text-classification", num_labels=3)
    mask = (np.arange(9) < np.array(LENGTHS[request.param])[:, None]).astype(np.int64)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = peft.get_peft_model(network, CONFIGS[name]).eval()
    ids = np.where(mask > 0, TOKENS, network.config.pad_token_id)
    return Tuned(network, model, "prefix" if "prefix" in name else "soft", ids, mask)


def assert_same(found: Tensor, wanted: Tensor) -> None:
    assert (found - wanted).abs().max() <= TOLERANCE * wanted.abs().max().clamp(min=1)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_logits_are_those_of_transformers(tuned: Tuned) -> None:
    wanted = tuned.by_transformers()
    module = ConditionedTextEncoder(tuned.model.get_base_model(), "text-classification", "mean")
    ids, mask = torch.from_numpy(tuned.ids), torch.from_numpy(tuned.mask)
    request = {name: torch.zeros_like(ids) for name in module.input_names if name == "token_type_ids"}
    request |= {"input_ids": ids, "attention_mask": mask}
    with torch.no_grad():
        untouched = module(**module.graph_inputs(request, {}))[1]
        prompt = module.as_input(tuned.kind, torch.from_numpy(tuned.prompt()))
        found = module(**module.graph_inputs(request, prompt))[1]
    assert_same(found, wanted)
    assert (wanted - untouched).abs().max() > 1e-2


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[PEFT_FINDS_NO_CACHE] if "prefix" in name else []) for name in CONFIGS]
)
@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_logits_of_transformers_are_those_of_peft(tuned: Tuned) -> None:
    with torch.no_grad():
        found = tuned.model(input_ids=torch.from_numpy(tuned.ids), attention_mask=torch.from_numpy(tuned.mask)).logits
    assert_same(found, tuned.by_transformers())
