from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from edge_prompt_export.modalities.text.examples import TextExamples, TokenizedText
from edge_prompt_export.training.examples import Batch
from edge_prompt_export.training.loop import LoopSettings, Outcome, train
from edge_prompt_export.training.metrics import Metrics, accuracy_of

LABELLED = [(number % 7 + 1, int(number % 7 > 3)) for number in range(70)]
ROWS = TextExamples([TokenizedText([token], label) for token, label in LABELLED], 0, takes_types=False)
TURNED = TextExamples([TokenizedText([token], 1 - label) for token, label in LABELLED], 0, takes_types=False)


class Table(nn.Module):
    """Logits by token, so that the best result is known."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 2)
        nn.init.zeros_(self.table.weight)

    def forward(self, batch: Batch) -> Tensor:
        logits: Tensor = self.table(batch.request["input_ids"][:, 0])
        return logits


class Watcher:
    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []
        self.epochs: list[int] = []

    def step(self, step: int, steps: int, loss: float) -> None:
        self.steps.append((step, steps))
        assert loss >= 0

    def epoch(self, epoch: int, figures: Metrics, *, best: bool) -> None:
        self.epochs.append(epoch)


def settings(**changed: object) -> LoopSettings:
    values = {"epochs": 6, "batch_size": 8, "accumulate": 1, "schedule": "cosine", "patience": None}
    return LoopSettings(**values | {"precision": "fp32", "seed": 0} | changed)  # type: ignore[arg-type]


def groups(module: nn.Module, rate: float = 0.3) -> list[dict[str, object]]:
    return [{"params": list(module.parameters()), "lr": rate}]


def test_it_learns() -> None:
    module, watcher = Table(), Watcher()
    outcome = train(module, groups(module), ROWS, ROWS, settings(), watcher)
    assert accuracy_of(module, ROWS, "fp32") == 1.0
    assert watcher.epochs == [1, 2, 3, 4, 5, 6]
    assert watcher.steps[-1] == (54, 54)
    assert len(watcher.steps) == 54
    assert len(outcome.accuracies) == 6
    assert not outcome.interrupted


def test_the_best_epoch_is_kept() -> None:
    """With inverted validation labels, every step makes it worse, so the initial parameters are best."""
    module = Table()
    with torch.no_grad():
        module.table.weight[1:4, 1] = 1.0
        module.table.weight[4:, 0] = 1.0
    start = module.table.weight.clone()
    outcome = train(module, groups(module), ROWS, TURNED, settings())
    assert outcome.kept_epoch == 0
    assert torch.equal(module.table.weight, start)


def test_without_validation_the_last_epoch_is_kept() -> None:
    module, watcher = Table(), Watcher()
    outcome = train(module, groups(module), ROWS, None, settings(patience=1), watcher)
    assert accuracy_of(module, ROWS, "fp32") == 1.0
    assert watcher.epochs == []
    assert outcome == Outcome((), 6, interrupted=False)
    assert not module.training


def test_validation_does_not_change_the_steps() -> None:
    ends = []
    for validation in (ROWS, None):
        module = Table()
        train(module, groups(module), ROWS, validation, settings())
        ends.append(module.table.weight.detach().clone())
    assert torch.equal(*ends)


def test_patience_ends_it_early() -> None:
    module = Table()
    with torch.no_grad():
        module.table.weight[1:4, 1] = 1.0
        module.table.weight[4:, 0] = 1.0
    outcome = train(module, groups(module, 1.0), ROWS, TURNED, settings(epochs=50, patience=2))
    assert len(outcome.accuracies) == 2


def test_accumulated_batches_are_one_large_batch() -> None:
    """One step over 2 x 35 rows equals one step over 70 rows."""
    moved = []
    for batch_size, accumulate in ((70, 1), (35, 2)):
        module = Table()
        train(module, groups(module), ROWS, ROWS, settings(epochs=1, batch_size=batch_size, accumulate=accumulate))
        moved.append(module.table.weight.detach().clone())
    assert torch.allclose(moved[0], moved[1], atol=1e-6)


class Interrupting(Watcher):
    def step(self, step: int, steps: int, loss: float) -> None:
        if step == 30:
            raise KeyboardInterrupt


def test_an_interruption_keeps_the_best_so_far() -> None:
    module = Table()
    outcome = train(module, groups(module), ROWS, ROWS, settings(), Interrupting())
    assert outcome.interrupted
    assert outcome.kept_epoch == len(outcome.accuracies) == 3
    assert accuracy_of(module, ROWS, "fp32") == outcome.accuracies[-1]


def test_an_interruption_without_validation_keeps_what_was_reached() -> None:
    module = Table()
    outcome = train(module, groups(module), ROWS, None, settings(), Interrupting())
    assert outcome == Outcome((), 4, interrupted=True)
    assert module.table.weight.abs().max() > 0
    assert not module.training


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_seed_gives_the_same_numbers(precision: str) -> None:
    ends = []
    for _ in range(2):
        module = Table()
        train(module, groups(module), ROWS, ROWS, settings(precision=precision))
        ends.append(module.table.weight.detach().clone())
    assert torch.equal(*ends)


def test_dropout_is_on_while_training_and_off_while_validating() -> None:
    modes: list[bool] = []

    class Noting(Table):
        def forward(self, batch: Batch) -> Tensor:
            modes.append(self.training)
            return super().forward(batch)

    module = Noting()
    train(module, groups(module), ROWS, ROWS, settings(epochs=1))
    assert modes == [False, False] + [True] * 9 + [False, False]
    assert not module.training
