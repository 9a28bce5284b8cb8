"""The training loop: train to the end of the schedule, or until early stopping or Ctrl-C.

With validation examples, the parameters of the best epoch are kept. Without them, the last parameters are kept: the
learning rate has decayed to zero by then. With only a few hundred examples, a held-out part would be missing from
training and would select an epoch mostly by chance.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_prompt_export.training.examples import Batch
from edge_prompt_export.training.metrics import ExamplesT, Measure, Metrics, ModuleT, accuracy_metrics, in_precision
from edge_prompt_export.training.schedule import SCHEDULES

LARGEST_GRADIENT_NORM = 1.0


class Observer(Protocol):
    """Receives the progress of tuning."""

    def step(self, step: int, steps: int, loss: float) -> None:
        """Called after each optimiser step."""

    def epoch(self, epoch: int, figures: Metrics, *, best: bool) -> None:
        """Called after each epoch with the validation metrics; not called without validation examples."""


class NullObserver:
    """An observer that ignores all progress."""

    def step(self, step: int, steps: int, loss: float) -> None:
        """See `Observer.step`."""

    def epoch(self, epoch: int, figures: Metrics, *, best: bool) -> None:
        """See `Observer.epoch`."""


@dataclass(frozen=True)
class LoopSettings:
    """Hyperparameters of the training loop.

    Attributes:
        epochs: Passes over the training rows.
        batch_size: Batch size of one forward pass.
        accumulate: Forward passes per optimiser step.
        schedule: A key of `SCHEDULES`.
        patience: Epochs without improvement on validation after which training stops; None never stops early.
        precision: A key of `PRECISIONS`.
        seed: Random seed for the order of the examples.
    """

    epochs: int
    batch_size: int
    accumulate: int
    schedule: str
    patience: int | None
    precision: str
    seed: int


@dataclass(frozen=True)
class Outcome:
    """How training ended.

    Attributes:
        figures: Validation metrics after each epoch; empty without validation examples.
        kept_epoch: The epoch whose parameters were kept, counted from 1; 0 means the initial parameters.
        interrupted: Whether the user interrupted training.
    """

    figures: tuple[Metrics, ...]
    kept_epoch: int
    interrupted: bool

    @property
    def accuracies(self) -> tuple[float, ...]:
        """The share of correct validation examples after each epoch, 0 to 1."""
        return tuple(figures.right for figures in self.figures)


def train(
    module: ModuleT,
    groups: Sequence[dict[str, Any]],
    training: ExamplesT,
    validation: ExamplesT | None,
    settings: LoopSettings,
    observer: Observer | None = None,
    measure: Measure[ModuleT, ExamplesT] = accuracy_metrics,
) -> Outcome:
    """Train the parameters in `groups`, and leave the module in evaluation mode with the best or the last parameters.

    Ctrl-C stops training early and keeps the best parameters so far, or the current ones without validation examples.

    Args:
        module: Maps a `Batch` to logits, one row per label of the batch.
        groups: AdamW's parameter groups, each with its learning rate.
        training: The examples to train on.
        validation: The examples that select the best epoch; None keeps the last epoch.
        settings: The hyperparameters.
        observer: Receives the progress.
        measure: The metric that the best epoch is selected by.
    """
    observer = observer or NullObserver()
    parameters = [parameter for group in groups for parameter in group["params"]]
    optimizer = torch.optim.AdamW(list(groups), weight_decay=0.0)
    steps_an_epoch = -(-len(training) // (settings.batch_size * settings.accumulate))
    steps = settings.epochs * steps_an_epoch
    factor = SCHEDULES[settings.schedule]
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factor(step, steps))
    rng = random.Random(settings.seed)
    chosen = None if validation is None else _Best(parameters, measure(module, validation, settings.precision))
    seen: list[Metrics] = []
    epoch, interrupted = 0, False
    module.train()
    try:
        for epoch in range(1, settings.epochs + 1):
            batches = training.shuffled(settings.batch_size, rng)
            for step in range(1, steps_an_epoch + 1):
                loss = _step(module, list(islice(batches, settings.accumulate)), parameters, optimizer, settings)
                scheduler.step()
                observer.step((epoch - 1) * steps_an_epoch + step, steps, loss)
            if chosen is None or validation is None:
                continue
            seen.append(measure(module, validation, settings.precision))
            observer.epoch(epoch, seen[-1], best=chosen.see(epoch, seen[-1]))
            if settings.patience is not None and epoch - chosen.epoch >= settings.patience:
                break
    except KeyboardInterrupt:
        interrupted = True
    finally:
        module.eval()
    if chosen is None:
        return Outcome((), epoch, interrupted)
    chosen.restore()
    return Outcome(tuple(seen), chosen.epoch, interrupted)


def _step(
    module: nn.Module,
    batches: Sequence[Batch],
    parameters: Sequence[Tensor],
    optimizer: torch.optim.Optimizer,
    settings: LoopSettings,
) -> float:
    """One optimiser step over `batches`; every label has the same weight."""
    rows = sum(len(batch.labels) for batch in batches)
    optimizer.zero_grad()
    total = 0.0
    for batch in batches:
        with in_precision(settings.precision):
            logits = module(batch)
        loss = F.cross_entropy(logits.float(), batch.labels, reduction="sum") / rows
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    nn.utils.clip_grad_norm_(parameters, LARGEST_GRADIENT_NORM)
    optimizer.step()
    return total


class _Best:
    """Keeps the parameters of the best epoch so far; the initial parameters count as epoch 0."""

    def __init__(self, parameters: Sequence[Tensor], figures: Metrics) -> None:
        self._parameters = parameters
        self._figures = figures
        self.epoch = 0
        self._kept = [parameter.detach().clone() for parameter in parameters]

    def see(self, epoch: int, figures: Metrics) -> bool:
        """Record an epoch and return whether it is the best so far; of equal epochs, the later one wins."""
        if figures.rank < self._figures.rank:
            return False
        self._figures, self.epoch = figures, epoch
        self._kept = [parameter.detach().clone() for parameter in self._parameters]
        return True

    def restore(self) -> None:
        with torch.no_grad():
            for parameter, value in zip(self._parameters, self._kept, strict=True):
                parameter.copy_(value)
