"""The warning of generation, in a module of its own so that filtering it imports nothing else."""

from __future__ import annotations


class GenerationConfigWarning(UserWarning):
    """The model's `generation_config.json` asks for an unsupported feature, so texts may differ from transformers'."""
