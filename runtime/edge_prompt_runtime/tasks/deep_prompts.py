"""Folding a deep prompt on the device: the bundle's fold graph, run once when the prompt is loaded."""

from __future__ import annotations

from threading import Lock

import numpy as np

from edge_prompt.formats.bundle import Bundle
from edge_prompt_runtime.engines.base import Engine, open_graph
from edge_prompt_runtime.engines.settings import DEFAULTS, EngineSettings
from edge_prompt_runtime.tasks.task import Float32


class Folder:
    """Folds deep prompts to prefixes; any number of threads may share one.

    The graph is opened when the first is folded, and kept: checking the digest of its weights and opening it takes far
    longer than folding. It holds no more weights than those that make keys and values.

    Args:
        bundle: The bundle.
        engine: The engine to fold on.
        settings: How to run it; it is computed in f32 whatever they say.
    """

    def __init__(self, bundle: Bundle, engine: str, settings: EngineSettings = DEFAULTS) -> None:
        self._bundle = bundle
        self._name = engine
        self._settings = settings._replace(precision="f32", cache_precision=None, model_cache=None)
        self._engine: Engine | None = None
        self._opening = Lock()

    def __call__(self, deep_prompt: Float32) -> Float32:
        """The prefix that `deep_prompt` amounts to.

        Args:
            deep_prompt: `[num_layers, num_virtual_tokens, hidden_size]` float32.

        Returns:
            `[num_layers, 2, num_kv_heads, num_virtual_tokens, head_dim]` float32.

        Raises:
            UnknownEngineError: The bundle folds nothing on this engine.
            ManifestError: The fold graph is missing or altered.
        """
        prefix = self._opened().run({"deep_prompt": deep_prompt}, ("prefix",))["prefix"]
        return np.ascontiguousarray(prefix[:, :, 0])

    def release(self) -> None:
        """Let go of the graph; folding under way ends on it, and the next deep prompt opens it again."""
        self._engine = None

    def _opened(self) -> Engine:
        with self._opening:  # threads that fold the first prompts at once open one graph
            if self._engine is None:
                self._engine = open_graph(self._bundle, self._bundle.fold_graph(self._name), self._settings)
            return self._engine
