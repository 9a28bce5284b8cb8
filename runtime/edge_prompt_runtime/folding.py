"""Folding a deep prompt on the device: the bundle's fold graph, run once when the prompt is loaded."""

from __future__ import annotations

import numpy as np

from edge_prompt.bundle import Bundle
from edge_prompt_runtime.engines import Engine, open_graph
from edge_prompt_runtime.tasks import Float32


class Folder:
    """Folds deep prompts to prefixes. The graph is opened when the first is folded, and let go with this object.

    Args:
        bundle: The bundle.
        engine: The engine to fold on.
    """

    def __init__(self, bundle: Bundle, engine: str) -> None:
        self._bundle = bundle
        self._name = engine
        self._engine: Engine | None = None

    def __call__(self, deep_prompt: Float32) -> Float32:
        """The prefix that `deep_prompt` amounts to.

        Args:
            deep_prompt: `[num_layers, num_virtual_tokens, hidden_size]` float32.

        Returns:
            `[num_layers, 2, num_kv_heads, num_virtual_tokens, head_dim]` float32.

        Raises:
            ManifestError: The fold graph is missing or altered.
        """
        if self._engine is None:
            self._engine = open_graph(self._bundle, self._bundle.fold_graph(self._name), threads=None)
        prefix = self._engine.run({"deep_prompt": deep_prompt}, ("prefix",))["prefix"]
        return np.ascontiguousarray(prefix[:, :, 0])
