from __future__ import annotations

import torch

from edge_prompt_export.training.probe import fit_head


def test_separable_classes_are_told_apart() -> None:
    torch.manual_seed(0)
    labels = torch.randint(0, 3, (90,))
    features = torch.randn(90, 8) + 4 * torch.nn.functional.one_hot(labels, 8)
    head = fit_head(features, labels, 3)
    assert (head(features).argmax(1) == labels).float().mean() > 0.95


def test_it_is_deterministic() -> None:
    features, labels = torch.randn(40, 5), torch.randint(0, 2, (40,))
    first, second = (fit_head(features, labels, 2) for _ in range(2))
    assert torch.equal(first.weight, second.weight)
