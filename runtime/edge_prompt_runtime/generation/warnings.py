"""The warning class of generation, in a separate module so that filtering the warning imports nothing else."""

from __future__ import annotations


class GenerationConfigWarning(UserWarning):
    """The model's `generation_config.json` asks for an unsupported feature, so texts may differ from transformers'."""
