"""Worker: PEFT on torch, with a soft prompt or a LoRA."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel, PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM
from transformers.generation.streamers import BaseStreamer

from benchmarks.peers.workers.protocol import THREADS, Answer, Take, serve, timed


class Streamer(BaseStreamer):  # type: ignore[misc]
    """Passes tokens on as they arrive, except those of the request, which come first."""

    def __init__(self, take: Take) -> None:
        self._take = take
        self._request_is_over = False

    def put(self, value: Any) -> None:
        """Take the tokens of a step."""
        if self._request_is_over:
            self._take(int(value.reshape(-1)[0]))
        self._request_is_over = True

    def end(self) -> None:
        """Do nothing: no token is buffered."""


def opened(folder: Path) -> Any:
    """Load the network, without tokens that end a text."""
    torch.set_num_threads(THREADS)
    network = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    network.generation_config.eos_token_id = None
    return network


@torch.no_grad()
def greedy(network: Any, tokens: list[int], new_tokens: int, streamer: Streamer | None = None) -> list[int]:
    """Return the tokens that follow a request."""
    ids = torch.tensor([tokens])
    found: list[int] = network.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=new_tokens,
        do_sample=False,
        pad_token_id=0,
        streamer=streamer,
    )[0].tolist()
    return found[-new_tokens:]


def load(folder: Path, prompt: Path | None, lora: Path | None) -> Answer:
    """Open the network with the prompt, the LoRA, or neither."""
    network = opened(folder)
    if prompt is not None:
        array = torch.from_numpy(np.load(prompt))
        config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=len(array))
        network = get_peft_model(network, config)
        network.prompt_encoder["default"].embedding.weight.data = array
    elif lora is not None:
        network = PeftModel.from_pretrained(network, lora)
    network.eval()

    def generate(tokens: list[int], new_tokens: int, take: Take) -> None:
        greedy(network, tokens, new_tokens, Streamer(take))

    return timed(generate)


def serve_from(loading: Callable[[Path, Path | None, Path | None], Answer]) -> None:
    """Serve what `loading` makes of the network, the prompt and the LoRA from the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--prompt", type=Path)
    parser.add_argument("--lora", type=Path)
    asked = parser.parse_args()
    serve(lambda: loading(asked.model, asked.prompt, asked.lora), ("torch", "transformers", "peft"))


if __name__ == "__main__":
    serve_from(load)
