"""In this environment: write SmolLM2-135M-Instruct, de-quantised, as a folder that every exporter reads.

python -m benchmarks.peers.recipes.make_network TARGET
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from examples.real_language import smollm2


def main() -> None:
    """Write weights, settings and tokenizer."""
    (target,) = sys.argv[1:]
    path = smollm2()
    read: Any = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    # transformers still treats a de-quantised GGUF network as quantised and would refuse to write it
    read.config.__dict__.pop("quantization_config", None)
    network: Any = AutoModelForCausalLM.from_config(read.config, dtype=torch.float32)
    network.load_state_dict(read.state_dict())
    network.generation_config = read.generation_config
    network.save_pretrained(target)
    AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(target)


if __name__ == "__main__":
    main()
