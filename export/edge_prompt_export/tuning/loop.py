"""The training loop: steps to the end of the schedule, or to the best epoch that validation saw, or to Ctrl-C.

Without validation the last parameters are kept: the learning rate has fallen to nothing by then, so they are settled,
and a few hundred examples held out to choose an epoch would be missed in training and choose by chance.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_prompt_export.tuning.examples import Batch, Examples
from edge_prompt_export.tuning.schedule import SCHEDULES

EVALUATION_BATCH_SIZE = 64
LARGEST_GRADIENT_NORM = 1.0


class Observer(Protocol):
    """Told how tuning goes."""

    def step(self, step: int, steps: int, loss: float) -> None:
        """An optimiser step was made."""

    def epoch(self, epoch: int, accuracy: float, *, best: bool) -> None:
        """An epoch ended with that accuracy on the validation examples; not told where there are none."""


class Silent:
    """An observer that says nothing."""

    def step(self, step: int, steps: int, loss: float) -> None:
        """See `Observer.step`."""

    def epoch(self, epoch: int, accuracy: float, *, best: bool) -> None:
        """See `Observer.epoch`."""


@dataclass(frozen=True)
class LoopSettings:
    """How to train.

    Attributes:
        epochs: Passes over the training rows.
        batch_size: Examples a forward.
        accumulate: Forwards an optimiser step.
        schedule: A key of `SCHEDULES`.
        patience: Epochs without improvement of validation after which training ends; None goes on to the end.
        precision: A key of `PRECISIONS`.
        seed: For the order of the examples.
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
        accuracies: On the validation examples, after each epoch, 0 to 1; empty without such.
        kept_epoch: The epoch whose parameters were kept, from 1; 0 is the start.
        interrupted: Whether the user ended it.
    """

    accuracies: tuple[float, ...]
    kept_epoch: int
    interrupted: bool


PRECISIONS: dict[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16}


def train(
    module: nn.Module,
    groups: Sequence[dict[str, Any]],
    training: Examples,
    validation: Examples | None,
    settings: LoopSettings,
    observer: Observer | None = None,
) -> Outcome:
    """Train the parameters in `groups` and leave the module in evaluation mode, with the best or the last of them.

    Ctrl-C ends training early and keeps the best so far; without validation, what was reached.

    Args:
        module: From a `Batch` to logits `[batch, num_labels]`.
        groups: AdamW's parameter groups, each with its learning rate.
        training: The examples to train on.
        validation: The examples to choose the best epoch by; None keeps the last.
        settings: How.
        observer: Who is told.
    """
    observer = observer or Silent()
    parameters = [parameter for group in groups for parameter in group["params"]]
    optimizer = torch.optim.AdamW(list(groups), weight_decay=0.0)
    steps_an_epoch = -(-len(training) // (settings.batch_size * settings.accumulate))
    steps = settings.epochs * steps_an_epoch
    factor = SCHEDULES[settings.schedule]
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factor(step, steps))
    rng = random.Random(settings.seed)
    chosen = None if validation is None else _Best(parameters, accuracy_of(module, validation, settings.precision))
    accuracies: list[float] = []
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
            accuracies.append(accuracy_of(module, validation, settings.precision))
            observer.epoch(epoch, accuracies[-1], best=chosen.see(epoch, accuracies[-1]))
            if settings.patience is not None and epoch - chosen.epoch >= settings.patience:
                break
    except KeyboardInterrupt:
        interrupted = True
    finally:
        module.eval()
    if chosen is None:
        return Outcome((), epoch, interrupted)
    chosen.restore()
    return Outcome(tuple(accuracies), chosen.epoch, interrupted)


def accuracy_of(module: nn.Module, examples: Examples, precision: str) -> float:
    """The share of `examples` that the module classifies right, 0 to 1."""
    right = 0
    with _evaluating(module), torch.no_grad():
        for batch in examples.ordered(EVALUATION_BATCH_SIZE):
            with in_precision(precision):
                logits = module(batch)
            right += int((logits.argmax(1) == batch.labels).sum())
    return right / len(examples)


@contextmanager
def in_precision(name: str) -> Iterator[None]:
    """Run matrix products in the precision `name`, a key of `PRECISIONS`."""
    dtype = PRECISIONS[name]
    with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
        yield


def _step(
    module: nn.Module,
    batches: Sequence[Batch],
    parameters: Sequence[Tensor],
    optimizer: torch.optim.Optimizer,
    settings: LoopSettings,
) -> float:
    """One optimiser step over `batches`; every row counts the same."""
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


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


class _Best:
    """Keeps the parameters of the best epoch so far, the start being epoch 0."""

    def __init__(self, parameters: Sequence[Tensor], accuracy: float) -> None:
        self._parameters = parameters
        self._accuracy = accuracy
        self.epoch = 0
        self._kept = [parameter.detach().clone() for parameter in parameters]

    def see(self, epoch: int, accuracy: float) -> bool:
        """Whether that epoch is the best; of equals the later one is, for it has seen more."""
        if accuracy < self._accuracy:
            return False
        self._accuracy, self.epoch = accuracy, epoch
        self._kept = [parameter.detach().clone() for parameter in self._parameters]
        return True

    def restore(self) -> None:
        with torch.no_grad():
            for parameter, value in zip(self._parameters, self._kept, strict=True):
                parameter.copy_(value)
