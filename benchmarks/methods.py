"""What a task's prompt is compared with, for texts and images alike: a linear head, and full fine-tuning."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from edge_prompt.preprocessing import modality_of
from edge_prompt_export.loading import LoadedBackbone
from edge_prompt_export.tuning.classifiers import features_of
from edge_prompt_export.tuning.examples import Examples
from edge_prompt_export.tuning.labelled import Labelled
from edge_prompt_export.tuning.loop import LoopSettings, train
from edge_prompt_export.tuning.measure import accuracy_of
from edge_prompt_export.tuning.modalities import MODALITIES
from edge_prompt_export.tuning.probe import fit_head
from edge_prompt_export.tuning.prompted import PromptedClassifier
from edge_prompt_export.tuning.settings import DTYPES, TuneSettings
from edge_prompt_export.tuning.tune import round_prompt, tune_examples

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
    """What every method of a task is given.

    Attributes:
        backbone: The network.
        training: Labelled examples to train on.
        test: Labelled examples to score on.
        labels: The class names.
        settings: Of prompts; epochs, schedule, batches and precision are those of all methods.
        fine_tuning_rate: AdamW's learning rate of the network's weights in full fine-tuning.
    """

    backbone: LoadedBackbone
    training: Sequence[Any]
    test: Sequence[Any]
    labels: tuple[str, ...]
    settings: TuneSettings
    fine_tuning_rate: float

    def rows(self, examples: Sequence[Any]) -> Examples:
        """Examples as batches."""
        modality = modality_of(self.backbone.preprocessing)
        return MODALITIES[modality].examples(self.backbone, examples, self.labels, self.settings)


class FineTuned(PromptedClassifier):
    """The same classifier without a prompt, its network among the parameters."""

    def __init__(self, backbone: LoadedBackbone, head: nn.Linear) -> None:
        super().__init__(backbone.module, "", torch.zeros(0), head, dropout=True)
        self.network = backbone.module


def linear_head(trial: Trial) -> PromptedClassifier:
    """A linear head on the frozen features."""
    nothing = PromptedClassifier(trial.backbone.module, "", torch.zeros(0), None)
    features = features_of(nothing, trial.rows(trial.training), trial.settings.precision)
    return PromptedClassifier(trial.backbone.module, "", torch.zeros(0), fit_head(*features, len(trial.labels)))


def prompt(kind: str) -> Callable[[Trial], PromptedClassifier]:
    """A prompt of that kind and a linear head, as `edge-prompt tune` does by default."""

    def tuned(trial: Trial) -> PromptedClassifier:
        settings = replace(trial.settings, kind=kind)
        labelled = Labelled(modality_of(trial.backbone.preprocessing), trial.training, [], trial.labels)
        classifier = tune_examples(trial.backbone, labelled, settings)[0]
        assert isinstance(classifier, PromptedClassifier)
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
        {"params": list(trial.backbone.module.parameters()), "lr": trial.fine_tuning_rate, "weight_decay": 0.01},
        {"params": list(head.parameters()), "lr": FINE_TUNING_HEAD_RATE},
    ]
    settings = trial.settings.complete(modality_of(trial.backbone.preprocessing))
    loop = LoopSettings(
        settings.epochs, settings.batch_size or 1, 1, settings.schedule, None, settings.precision, settings.seed
    )
    train(classifier, groups, trial.rows(trial.training), None, loop)
    return classifier


METHODS: dict[str, Callable[[Trial], PromptedClassifier]] = {
    "linear": linear_head,
    "soft": prompt("soft"),
    "deep": prompt("deep"),
    "prefix": prompt("prefix"),
    "pixel": prompt("pixel"),
    "full": full_fine_tuning,
}


def measure(task: str, method: str, trial: Trial) -> Result:
    """Train by one method and score it on the whole test split, in fp32."""
    torch.manual_seed(trial.settings.seed)
    start = perf_counter()
    classifier = METHODS[method](trial)
    seconds = perf_counter() - start
    accuracy = accuracy_of(classifier, trial.rows(trial.test), "fp32")
    return Result(task, method, round(100 * accuracy, 2), _bytes_of(classifier, trial.settings), round(seconds))


def show(results: Iterable[Result], json_file: Path | None) -> None:
    """Print each result as it comes, and a table of all; write them a line each to `json_file`, if there is one."""
    table = Table("task", "method", "test accuracy %", "bytes a task", "seconds")
    for result in results:
        table.add_row(
            result.task, result.method, f"{result.accuracy:.1f}", f"{result.bytes:,}", f"{result.seconds:.0f}"
        )
        line = json.dumps(asdict(result))
        print(line, flush=True)
        if json_file is not None:
            with json_file.open("a", encoding="utf-8") as stream:
                stream.write(line + "\n")
    Console().print(table)


def _bytes_of(classifier: PromptedClassifier, settings: TuneSettings) -> int:
    """What a task needs on disk: all that was trained, a prompt in its file's dtype and the rest in fp32."""
    trained: list[Tensor] = [*(classifier.head.parameters() if classifier.head is not None else ())]
    if isinstance(classifier, FineTuned):
        trained += list(classifier.network.parameters())
    prompt_bytes = np.dtype(DTYPES[settings.dtype]).itemsize * classifier.prompt.numel()
    return prompt_bytes + _BYTES_A_NUMBER * sum(tensor.numel() for tensor in trained)
