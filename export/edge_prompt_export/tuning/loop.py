"""The training loop: steps, validation, the best checkpoint, early stopping, and an end at any moment."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edge_prompt_export.tuning.batches import Batch, Row, shuffled_batches, sorted_batches
from edge_prompt_export.tuning.schedule import SCHEDULES

EVALUATION_BATCH_SIZE = 64
LARGEST_GRADIENT_NORM = 1.0


class Observer(Protocol):
    """Told how tuning goes."""

    def step(self, step: int, steps: int, loss: float) -> None:
        """An optimiser step was made."""

    def epoch(self, epoch: int, accuracy: float, *, best: bool) -> None:
        """An epoch ended with that accuracy on the validation examples."""


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
        batch_size: Rows a forward.
        accumulate: Forwards an optimiser step.
        schedule: A key of `SCHEDULES`.
        patience: Epochs without improvement after which training ends; None goes on to the end.
        precision: A key of `PRECISIONS`.
        seed: For the order of the rows.
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
        accuracies: On the validation rows, after each epoch, 0 to 1.
        best_epoch: The epoch whose parameters were kept, from 1; 0 is the start.
        interrupted: Whether the user ended it.
    """

    accuracies: tuple[float, ...]
    best_epoch: int
    interrupted: bool


PRECISIONS: dict[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16}


def train(
    module: nn.Module,
    groups: Sequence[dict[str, Any]],
    training: Sequence[Row],
    validation: Sequence[Row],
    pad_token_id: int,
    settings: LoopSettings,
    observer: Observer | None = None,
) -> Outcome:
    """Train the parameters in `groups` and leave the module with the best that validation saw, in evaluation mode.

    Ctrl-C ends training early and keeps the best so far.

    Args:
        module: From a `Batch` to logits `[batch, num_labels]`.
        groups: AdamW's parameter groups, each with its learning rate.
        training: The rows to train on.
        validation: The rows to choose by.
        pad_token_id: What fills rows up.
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
    best = accuracy_of(module, validation, pad_token_id, settings.precision)
    kept, best_epoch, accuracies, interrupted = _copied(parameters), 0, [], False
    module.train()
    try:
        for epoch in range(1, settings.epochs + 1):
            batches = shuffled_batches(training, settings.batch_size, pad_token_id, rng)
            for start in range(0, len(batches), settings.accumulate):
                loss = _step(module, batches[start : start + settings.accumulate], parameters, optimizer, settings)
                scheduler.step()
                observer.step((epoch - 1) * steps_an_epoch + start // settings.accumulate + 1, steps, loss)
            accuracy = accuracy_of(module, validation, pad_token_id, settings.precision)
            accuracies.append(accuracy)
            observer.epoch(epoch, accuracy, best=accuracy >= best)
            if accuracy >= best:  # of equals the later one: it has seen more
                best, kept, best_epoch = accuracy, _copied(parameters), epoch
            elif settings.patience is not None and epoch - best_epoch >= settings.patience:
                break
    except KeyboardInterrupt:
        interrupted = True
    finally:
        module.eval()
    with torch.no_grad():
        for parameter, value in zip(parameters, kept, strict=True):
            parameter.copy_(value)
    return Outcome(tuple(accuracies), best_epoch, interrupted)


def accuracy_of(module: nn.Module, rows: Sequence[Row], pad_token_id: int, precision: str) -> float:
    """The share of `rows` that the module classifies right, 0 to 1."""
    right = 0
    with _evaluating(module), torch.no_grad():
        for batch in sorted_batches(rows, EVALUATION_BATCH_SIZE, pad_token_id):
            with in_precision(precision):
                logits = module(batch)
            right += int((logits.argmax(1) == batch.labels).sum())
    return right / len(rows)


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


def _copied(parameters: Sequence[Tensor]) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in parameters]
