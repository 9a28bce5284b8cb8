"""The interface between labelled examples and the training loop: batches of requests with their labels."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple, Protocol

from torch import Tensor

from edge_prompt_export.backbone.conditioned_module import Tensors


class Batch(NamedTuple):
    """A batch of examples: the request to the network, `[batch, …]` each, and `labels [batch]` int64."""

    request: Tensors
    labels: Tensor


class Examples(Protocol):
    """Labelled examples."""

    def __len__(self) -> int:
        """The number of examples."""

    def shuffled(self, batch_size: int, rng: random.Random) -> Iterator[Batch]:
        """All examples once, in random order, prepared for training."""

    def ordered(self, batch_size: int) -> Iterator[Batch]:
        """All examples once, in a fixed order and without augmentation."""
