"""In PEFT's environment: write a random LoRA of rank 8 on the queries, keys, values and outputs of attention.

python -m benchmarks.peers.recipes.make_lora SOURCE TARGET
"""

from __future__ import annotations

import sys

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

RANK = 8
DEVIATION = 0.1
"""Of the second matrices, which PEFT starts at zero: large enough to change the text, too small to make it noise."""


def main() -> None:
    """Write the adapter, with a scale of 1, which all peers interpret alike."""
    source, target = sys.argv[1:]
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=RANK,
        lora_alpha=RANK,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
    )
    model = get_peft_model(network, config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=DEVIATION)
    model.save_pretrained(target)


if __name__ == "__main__":
    main()
