"""A prompt that PEFT made gives here what it gives in PEFT."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import peft
import pytest
import torch
from torch import Tensor

from edge_prompt_export.families.text_encoder import ConditionedTextEncoder

LENGTH = 5
TOLERANCE = 1e-4
SHARED = {"task_type": "SEQ_CLS", "num_virtual_tokens": LENGTH}
CONFIGS = {
    "prompt tuning": peft.PromptTuningConfig(**SHARED),
    "p-tuning, MLP": peft.PromptEncoderConfig(**SHARED, encoder_hidden_size=16),
    "p-tuning, LSTM": peft.PromptEncoderConfig(**SHARED, encoder_reparameterization_type="LSTM", encoder_num_layers=1),
    "prefix tuning": peft.PrefixTuningConfig(**SHARED),
    "prefix tuning, projected": peft.PrefixTuningConfig(**SHARED, prefix_projection=True, encoder_hidden_size=16),
}


def tokens_of(network: Any, *, padded: bool) -> dict[str, Tensor]:
    lengths = torch.tensor([9, 5, 2] if padded else [9, 9, 9])
    mask = (torch.arange(9) < lengths[:, None]).long()
    ids = torch.randint(3, 120, mask.shape, generator=torch.Generator().manual_seed(3))
    return {"input_ids": torch.where(mask > 0, ids, network.config.pad_token_id), "attention_mask": mask}


def our_prompt(model: Any, module: ConditionedTextEncoder) -> dict[str, Tensor]:
    """The prompt of PEFT's model as our arguments; of a prefix, PEFT's rows 2l and 2l + 1 are layer l's key and value.

    A prefix is taken from PEFT's own weights, `[T, 2L * H * Dh]`, not from the cache that PEFT makes of them.
    """
    layers, (heads, head_dim) = len(module.layer_shapes), module.layer_shapes[0]
    encoder, numbers = model.prompt_encoder["default"], model.prompt_tokens["default"][:LENGTH]
    if model.active_peft_config.peft_type != peft.PeftType.PREFIX_TUNING:
        return {"soft_prompt": encoder(numbers[None]), "prefix": torch.zeros(layers, 2, 1, heads, 0, head_dim)}
    rows = encoder(numbers[None])[0].reshape(LENGTH, 2 * layers, heads, head_dim)
    prefix = torch.stack([rows[:, 0::2], rows[:, 1::2]]).permute(2, 0, 3, 1, 4)
    return {"soft_prompt": torch.zeros(1, 0, module.embedding_size), "prefix": prefix[:, :, None]}


@pytest.mark.parametrize("padded", [False, True], ids=["full rows", "padded rows"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("model_type", ["bert", "roberta"])
def test_logits_are_those_of_peft(
    model_type: str, config: peft.PeftConfig, padded: bool, tiny_network: Callable[..., Any]
) -> None:
    network = tiny_network(model_type, "text-classification", num_labels=3)
    tokens = tokens_of(network, padded=padded)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(1)
        base = network(**tokens).logits
        model = peft.get_peft_model(network, config).eval()
        wanted = model(**tokens).logits
        module = ConditionedTextEncoder(model.get_base_model(), "text-classification", "mean")
        mask = torch.cat([torch.ones(3, LENGTH).long(), tokens["attention_mask"]], 1)
        arguments = {"input_ids": tokens["input_ids"], "attention_mask": mask, **our_prompt(model, module)}
        _, found = module(**arguments)
    assert (found - wanted).abs().max() <= TOLERANCE * wanted.abs().max().clamp(min=1)
    assert (wanted - base).abs().max() > 1e-2
