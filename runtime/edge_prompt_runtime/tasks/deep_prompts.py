"""Folding deep prompts on the device: runs the bundle's fold graph once when a prompt is loaded."""

from __future__ import annotations

from dataclasses import replace
from threading import Lock

import numpy as np

from edge_prompt.formats.bundle import Bundle
from edge_prompt_runtime.engines.base import Engine, open_graph
from edge_prompt_runtime.engines.options import DEFAULTS, EngineOptions
from edge_prompt_runtime.tasks.task import Float32


class DeepPromptFolder:
    """Folds deep prompts into prefixes. Thread-safe.

    The graph is opened for the first deep prompt and then stays open: verifying the digest of its weights and opening
    it takes far longer than folding. It contains only the weights that produce keys and values.

    Args:
        bundle: The bundle.
        engine: The engine to fold on.
        options: Settings of the engine; the precision is always f32.
    """

    def __init__(self, bundle: Bundle, engine: str, options: EngineOptions = DEFAULTS) -> None:
        self._bundle = bundle
        self._name = engine
        self._options = replace(options, precision="f32", cache_precision=None, model_cache=None)
        self._engine: Engine | None = None
        self._opening = Lock()

    def __call__(self, deep_prompt: Float32) -> Float32:
        """Return the prefix that is equivalent to `deep_prompt`.

        Args:
            deep_prompt: `[num_layers, num_virtual_tokens, hidden_size]` float32.

        Returns:
            `[num_layers, 2, num_kv_heads, num_virtual_tokens, head_dim]` float32.

        Raises:
            UnknownEngineError: The bundle has no fold graph for this engine.
            ManifestError: The fold graph is missing or altered.
        """
        prefix = self._opened().run({"deep_prompt": deep_prompt}, ("prefix",))["prefix"]
        return np.ascontiguousarray(prefix[:, :, 0])

    def release(self) -> None:
        """Release the graph; running folds finish with it, and the next deep prompt opens it again."""
        self._engine = None

    def _opened(self) -> Engine:
        with self._opening:  # threads that fold their first prompts concurrently open a single graph
            if self._engine is None:
                self._engine = open_graph(self._bundle, self._bundle.fold_graph(self._name), self._options)
            return self._engine
