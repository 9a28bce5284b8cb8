"""Serving many callers: their single requests run in batches."""

from edge_prompt_runtime.serving.batcher import Batcher

__all__ = ["Batcher"]
