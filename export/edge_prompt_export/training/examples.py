"""Labelled examples as the training loop sees them: batches of requests, and what each is."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from torch import Tensor

from edge_prompt_export.backbone.conditioned_module import Tensors


class Batch(NamedTuple):
    """Some examples: the request to the network, `[batch, …]` each, and `labels [batch]` int64."""

    request: Tensors
    labels: Tensor


class Examples(Protocol):
    """Labelled examples."""

    def __len__(self) -> int:
        """How many there are."""

    def shuffled(self, batch_size: int, rng: random.Random) -> Iterator[Batch]:
        """All of them once, in an order that `rng` gives, as training wants them."""

    def ordered(self, batch_size: int) -> Iterator[Batch]:
        """All of them once, as they are."""
