"""Worker: PEFT on torch, between two LoRAs or two soft prompts."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from peft import PeftModel, PromptTuningConfig, get_peft_model

from benchmarks.peers.workers.peft import greedy, opened, serve_from
from benchmarks.peers.workers.protocol import Answer
from benchmarks.peers.workers.switching import NAMES, Generated, switching

FIRST, SECOND = NAMES


def with_prompts(network: Any, prompt: Path) -> Any:
    """The network with both soft prompts."""
    array = torch.from_numpy(np.load(prompt))
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=len(array))
    model = get_peft_model(network, config, adapter_name=FIRST)
    model.add_adapter(SECOND, config)
    for name, found in zip(NAMES, (array, -array), strict=True):
        model.prompt_encoder[name].embedding.weight.data = found
    return model


def with_loras(network: Any, lora: Path) -> Any:
    """The network with both LoRAs."""
    model: Any = PeftModel.from_pretrained(network, lora, adapter_name=FIRST)
    model.load_adapter(lora, SECOND)
    for name, parameter in model.named_parameters():
        if "lora_B" in name and f".{SECOND}." in name:
            parameter.data.neg_()
    return model


def load(folder: Path, prompt: Path | None, lora: Path | None) -> Answer:
    """Open the network with two prompts or two LoRAs."""
    network = opened(folder)
    if prompt is not None:
        model = with_prompts(network, prompt)
    else:
        assert lora is not None
        model = with_loras(network, lora)
    model.eval()

    def generate(adapter: str, tokens: list[int], new_tokens: int) -> Generated:
        switch_us = None
        if model.active_adapter != adapter:
            start = perf_counter()
            model.set_adapter(adapter, inference_mode=True)
            switch_us = 1e6 * (perf_counter() - start)
        return Generated(greedy(model, tokens, new_tokens), switch_us)

    return switching(generate)


if __name__ == "__main__":
    serve_from(load)
