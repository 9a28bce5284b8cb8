"""A linear probe: a head fitted to fixed features. Tuning starts from it, and it serves as a baseline."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WEIGHT_PENALTY = 1e-2
"""Factor on half the squared weights, per class; it keeps the weights small if the classes are separable."""

_ITERATIONS = 100


def fit_head(features: Tensor, labels: Tensor, num_labels: int) -> nn.Linear:
    """Fit a linear head by L-BFGS on cross-entropy.

    Args:
        features: `[examples, feature_size]` float32.
        labels: `[examples]` int64.
        num_labels: The number of classes.
    """
    head = nn.Linear(features.shape[1], num_labels)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        penalty = WEIGHT_PENALTY * head.weight.square().sum() / 2 / num_labels
        value = F.cross_entropy(head(features), labels) + penalty
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return head
