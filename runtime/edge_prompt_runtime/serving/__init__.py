"""Serving many callers by running their single requests in batches."""

from edge_prompt_runtime.serving.batcher import Batcher

__all__ = ["Batcher"]
