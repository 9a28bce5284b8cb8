"""How good are prompts? Beside a linear head and full fine-tuning of the same network, same data, same epochs.

    python benchmarks/quality.py                       # every task and method; most of an hour on two cores
    python benchmarks/quality.py --task tweets --method prefix --method full

Every method sees the same training texts in the same number of epochs, keeps its last parameters, and is scored on the
whole test split, a prompt in the numbers of its file. How settings were chosen: see the README.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from time import perf_counter

import click
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from edge_prompt_export.loading import LoadedBackbone, load_backbone
from edge_prompt_export.tuning.data import Example
from edge_prompt_export.tuning.examples import Examples
from edge_prompt_export.tuning.loop import LoopSettings, accuracy_of, train
from edge_prompt_export.tuning.modalities import Labelled, text_rows
from edge_prompt_export.tuning.probe import fit_head
from edge_prompt_export.tuning.prompted import PromptedClassifier
from edge_prompt_export.tuning.settings import DTYPES, TuneSettings
from edge_prompt_export.tuning.tune import features_of, round_prompt, tune_examples
from examples.real_data import TEXT_TASKS, minilm, text_task

FINE_TUNING_RATE = 1e-4
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
    training: list[Example]
    labels: tuple[str, ...]
    settings: TuneSettings

    def rows(self, examples: list[Example]) -> Examples:
        """Examples as batches."""
        return text_rows(self.backbone, examples, self.labels, self.settings)


class FineTuned(PromptedClassifier):
    """The same classifier without a prompt, its network among the parameters."""

    def __init__(self, encoder: nn.Module, head: nn.Linear) -> None:
        super().__init__(encoder, "", torch.zeros(0), head, dropout=True)  # type: ignore[arg-type]
        self.network = encoder


def linear_head(trial: Trial) -> PromptedClassifier:
    """A linear head on the frozen features."""
    nothing = PromptedClassifier(trial.backbone.module, "", torch.zeros(0), None)
    features = features_of(nothing, trial.rows(trial.training), trial.settings.precision)
    return PromptedClassifier(trial.backbone.module, "", torch.zeros(0), fit_head(*features, len(trial.labels)))


def prompt(kind: str) -> Callable[[Trial], PromptedClassifier]:
    """A prompt of that kind and a linear head, as `edge-prompt tune` does by default."""

    def tuned(trial: Trial) -> PromptedClassifier:
        settings = replace(trial.settings, kind=kind)
        classifier = tune_examples(trial.backbone, Labelled("text", trial.training, [], trial.labels), settings)[0]
        round_prompt(classifier, settings)
        return classifier

    return tuned


def full_fine_tuning(trial: Trial) -> PromptedClassifier:
    """Every weight of the network and a linear head, which starts from the same fit."""
    head = linear_head(trial).head
    assert head is not None
    classifier = FineTuned(trial.backbone.module, head)
    classifier.requires_grad_(requires_grad=True)
    groups = [
        {"params": list(trial.backbone.module.parameters()), "lr": FINE_TUNING_RATE, "weight_decay": 0.01},
        {"params": list(head.parameters()), "lr": FINE_TUNING_HEAD_RATE},
    ]
    settings = trial.settings
    loop = LoopSettings(settings.epochs, 32, 1, settings.schedule, None, settings.precision, settings.seed)
    train(classifier, groups, trial.rows(trial.training), None, loop)
    return classifier


METHODS: dict[str, Callable[[Trial], PromptedClassifier]] = {
    "linear": linear_head,
    "soft": prompt("soft"),
    "prefix": prompt("prefix"),
    "full": full_fine_tuning,
}


def measure(task: str, method: str, examples: int, settings: TuneSettings) -> Result:
    """Train by one method and score it on the whole test split."""
    torch.manual_seed(settings.seed)
    data = text_task(task)
    given = list(data.train)
    torch_order = torch.randperm(len(given), generator=torch.Generator().manual_seed(1)).tolist()
    training = [given[index] for index in torch_order[:examples]]
    labels = tuple(sorted({example.label for example in data.train}))
    trial = Trial(load_backbone(str(minilm())), training, labels, settings)
    start = perf_counter()
    classifier = METHODS[method](trial)
    seconds = perf_counter() - start
    accuracy = accuracy_of(classifier, trial.rows(data.test), "fp32")
    return Result(task, method, round(100 * accuracy, 2), _bytes_of(classifier, settings), round(seconds))


def _bytes_of(classifier: PromptedClassifier, settings: TuneSettings) -> int:
    """What a task needs on disk: all that was trained, a prompt in its file's dtype and the rest in fp32."""
    trained: list[Tensor] = [*(classifier.head.parameters() if classifier.head is not None else ())]
    if isinstance(classifier, FineTuned):
        trained += list(classifier.network.parameters())
    prompt_bytes = np.dtype(DTYPES[settings.dtype]).itemsize * classifier.prompt.numel()
    return prompt_bytes + _BYTES_A_NUMBER * sum(tensor.numel() for tensor in trained)


@click.command()
@click.option("--task", "tasks", type=click.Choice(list(TEXT_TASKS)), multiple=True, default=list(TEXT_TASKS))
@click.option("--method", "methods", type=click.Choice(list(METHODS)), multiple=True, default=list(METHODS))
@click.option("--examples", default=3000, show_default=True, help="Training texts a task.")
@click.option("--epochs", default=TuneSettings().epochs, show_default=True)
@click.option("--virtual-tokens", type=int, help="Of prompts.  [default: that of `edge-prompt tune` for the kind]")
@click.option("--max-tokens", default=64, show_default=True, help="Tokens of a text.")
@click.option(
    "--dropout/--no-dropout", default=TuneSettings().dropout, show_default=True, help="The network's own, for prompts."
)
@click.option("--head-learning-rate", default=TuneSettings().head_learning_rate, show_default=True, help="For prompts.")
@click.option("--precision", default="bf16", show_default=True, help="Of training; scoring is in fp32.")
@click.option("--threads", default=2, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Where to write the results, a line each.")
def main(
    *,
    tasks: tuple[str, ...],
    methods: tuple[str, ...],
    examples: int,
    epochs: int,
    virtual_tokens: int | None,
    max_tokens: int,
    dropout: bool,
    head_learning_rate: float,
    precision: str,
    threads: int,
    seed: int,
    json_file: Path | None,
) -> None:
    """Print a table of test accuracies."""
    torch.set_num_threads(threads)
    settings = TuneSettings(
        virtual_tokens=virtual_tokens,
        epochs=epochs,
        max_tokens=max_tokens,
        dropout=dropout,
        head_learning_rate=head_learning_rate,
        precision=precision,
        seed=seed,
    )
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
