"""What generation warns of. By itself, so that whoever filters the warning imports nothing else."""

from __future__ import annotations


class GenerationConfigWarning(UserWarning):
    """The model's generation_config.json asks for what is not done here, so its texts are other than its authors'."""
