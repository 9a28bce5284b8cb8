"""Validation metrics, and the precision of networks while they are measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

from edge_prompt_export.training.examples import Examples

EVALUATION_BATCH_SIZE = 64

PRECISIONS: dict[str, torch.dtype | None] = {"fp32": None, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Metrics:
    """Metrics on the validation examples.

    Attributes:
        right: Share of correct examples, 0 to 1.
        loss: Mean loss per token, in nats; None if it is not measured.
        measure: How correctness is defined: `accuracy`, or `exact match` of a generated text.
    """

    right: float
    loss: float | None = None
    measure: str = "accuracy"

    @property
    def rank(self) -> tuple[float, float]:
        """A sort key; greater is better. Ties in the share of correct examples are broken by the lower loss."""
        return self.right, -(self.loss or 0.0)

    def __str__(self) -> str:
        """The metrics in readable form."""
        loss = "" if self.loss is None else f", loss {self.loss:.3f}"
        return f"{self.measure} {self.right:.1%}{loss}"

    def as_json(self) -> dict[str, float]:
        """The metrics in the form that is stored in a card."""
        found = {self.measure.replace(" ", "_"): self.right, "loss": self.loss}
        return {name: round(value, 4) for name, value in found.items() if value is not None}


ModuleT = TypeVar("ModuleT", bound=nn.Module)
ExamplesT = TypeVar("ExamplesT", bound=Examples)

Measure = Callable[[ModuleT, ExamplesT, str], Metrics]
"""Measures a module on examples in a precision, a key of `PRECISIONS`."""


def accuracy_metrics(module: nn.Module, examples: Examples, precision: str) -> Metrics:
    """The accuracy of a classifier, as `Metrics`."""
    return Metrics(accuracy_of(module, examples, precision))


def accuracy_of(module: nn.Module, examples: Examples, precision: str) -> float:
    """The share of `examples` that the module classifies correctly, 0 to 1."""
    right = 0
    with measuring(module, precision):
        for batch in examples.ordered(EVALUATION_BATCH_SIZE):
            right += int((module(batch).argmax(1) == batch.labels).sum())
    return right / len(examples)


@contextmanager
def in_precision(name: str) -> Iterator[None]:
    """Run matrix products in the precision `name`, a key of `PRECISIONS`."""
    dtype = PRECISIONS[name]
    with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
        yield


@contextmanager
def measuring(module: nn.Module, precision: str) -> Iterator[None]:
    """Run a module in evaluation mode, without dropout and gradients, and restore its mode afterwards."""
    training = module.training
    module.eval()
    try:
        with torch.no_grad(), in_precision(precision):
            yield
    finally:
        module.train(training)
