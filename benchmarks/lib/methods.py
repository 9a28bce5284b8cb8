"""Methods that a task's prompt is compared with, for texts and images: a linear head, LoRA and full fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, NamedTuple

import numpy as np
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn

from benchmarks.lib.publish import Measured
from edge_prompt.formats.preprocessing import modality_of
from edge_prompt_export.backbone.backbone import LoadedBackbone
from edge_prompt_export.modalities.image.dataset import ImageDataset
from edge_prompt_export.modalities.registry import recipe_of
from edge_prompt_export.modalities.text.dataset import TextDataset
from edge_prompt_export.training.classifiers import features_of
from edge_prompt_export.training.examples import Examples
from edge_prompt_export.training.loop import LoopSettings, train
from edge_prompt_export.training.metrics import accuracy_of
from edge_prompt_export.training.probe import fit_head
from edge_prompt_export.training.prompted_network import PromptedClassifier
from edge_prompt_export.training.settings import DTYPES, TuneSettings
from edge_prompt_export.tune import round_prompt, tune_examples
from edge_prompt_runtime.bench.results import Chart, Ratio, Series

FINE_TUNING_HEAD_RATE = 1e-3
LORA_RATE = 2e-3
LORA_RANK = 8
LORA_MODULES = r".*attention(\.self|\.output)?\.(query|key|value|dense|q_proj|k_proj|v_proj|o_proj)"
"""Queries, keys, values and outputs of attention, as BERT and DINOv2 name them."""

RESAMPLES = 2_000
_BYTES_A_NUMBER = 4

DATASETS: Mapping[str, type[TextDataset | ImageDataset]] = {"text": TextDataset, "image": ImageDataset}
"""The examples of each modality."""


class Scored(NamedTuple):
    """One method on one task with one seed: correct test rows, trained bytes, and seconds."""

    right: int
    rows: int
    bytes: int
    seconds: float

    @property
    def percent(self) -> float:
        """The accuracy in percent."""
        return 100 * self.right / self.rows


@dataclass(frozen=True)
class Trial:
    """The inputs of every method of a task.

    Attributes:
        backbone: The network.
        training: Labelled examples to train on.
        test: Labelled examples to score on.
        labels: The class names.
        settings: Settings of prompts; epochs, schedule, batches and precision apply to all methods.
        fine_tuning_rate: AdamW's learning rate of the network's weights in full fine-tuning.
        lora_rate: Learning rate of LoRA's matrices.
    """

    backbone: LoadedBackbone
    training: Sequence[Any]
    test: Sequence[Any]
    labels: tuple[str, ...]
    settings: TuneSettings
    fine_tuning_rate: float
    lora_rate: float = LORA_RATE

    def rows(self, examples: Sequence[Any]) -> Examples:
        """Return the examples in the form that training takes."""
        dataset = DATASETS[modality_of(self.backbone.preprocessing)](examples, [], self.labels)
        return recipe_of(self.backbone).encode_training(self.backbone, dataset, self.settings)


class FineTuned(PromptedClassifier):
    """The same classifier without a prompt, which trains the weights of its network that require gradients.

    Args:
        backbone: The network.
        head: Initial head.
        dtype: Dtype of the file for the trained weights.
    """

    def __init__(self, backbone: LoadedBackbone, head: nn.Linear, dtype: str = "float32") -> None:
        super().__init__(backbone.module, "", torch.zeros(0), head, dropout=True)
        self.network = backbone.module
        self.dtype = dtype

    def trained(self) -> list[nn.Parameter]:
        """Return the weights of the network that are trained."""
        return [weight for weight in self.network.parameters() if weight.requires_grad]

    def round(self) -> None:
        """Round the weights to the precision of the file."""
        with torch.no_grad():
            for weight in self.trained():
                weight.copy_(torch.from_numpy(weight.numpy().astype(DTYPES[self.dtype]).astype(np.float32)))


def linear_head(trial: Trial) -> PromptedClassifier:
    """Train a linear head on the frozen features."""
    nothing = PromptedClassifier(trial.backbone.module, "", torch.zeros(0), None)
    features = features_of(nothing, trial.rows(trial.training), trial.settings.precision)
    return PromptedClassifier(trial.backbone.module, "", torch.zeros(0), fit_head(*features, len(trial.labels)))


def prompt(kind: str) -> Callable[[Trial], PromptedClassifier]:
    """Train a prompt of that kind and a linear head, as `edge-prompt tune` does by default."""

    def tuned(trial: Trial) -> PromptedClassifier:
        settings = replace(trial.settings, kind=kind)
        dataset = DATASETS[modality_of(trial.backbone.preprocessing)](trial.training, [], trial.labels)
        classifier = tune_examples(trial.backbone, dataset, settings).network
        assert isinstance(classifier, PromptedClassifier)
        round_prompt(classifier, settings)
        return classifier

    return tuned


def full_fine_tuning(trial: Trial) -> PromptedClassifier:
    """Train every weight of the network and a linear head that starts from the same fit."""
    head = linear_head(trial).head
    assert head is not None
    trial.backbone.module.requires_grad_(requires_grad=True)
    return fine_tuned(FineTuned(trial.backbone, head), trial, trial.fine_tuning_rate, weight_decay=0.01)


def lora(trial: Trial) -> PromptedClassifier:
    """Train PEFT's LoRA of rank 8 on every linear layer of attention, and a linear head from the same fit."""
    head = linear_head(trial).head
    assert head is not None
    trial.backbone.module.requires_grad_(requires_grad=False)
    # rank-stabilised scaling is not used; the usual alpha is twice the rank
    config = LoraConfig(r=LORA_RANK, lora_alpha=2 * LORA_RANK, lora_dropout=0.0, target_modules=LORA_MODULES)
    inject_adapter_in_model(config, trial.backbone.module)
    classifier = FineTuned(trial.backbone, head, trial.settings.dtype)
    return fine_tuned(classifier, trial, trial.lora_rate, weight_decay=0.0)


def fine_tuned(classifier: FineTuned, trial: Trial, rate: float, weight_decay: float) -> FineTuned:
    """Train the network's weights that require gradients, and the head, in the same loop as prompts."""
    assert classifier.head is not None
    groups = [
        {"params": classifier.trained(), "lr": rate, "weight_decay": weight_decay},
        {"params": list(classifier.head.parameters()), "lr": FINE_TUNING_HEAD_RATE},
    ]
    settings = trial.settings.complete(modality_of(trial.backbone.preprocessing))
    loop = LoopSettings(
        settings.epochs, settings.batch_size or 1, 1, settings.schedule, None, settings.precision, settings.seed
    )
    train(classifier, groups, trial.rows(trial.training), None, loop)
    classifier.round()
    return classifier


METHODS: dict[str, Callable[[Trial], PromptedClassifier]] = {
    "linear": linear_head,
    "soft": prompt("soft"),
    "deep": prompt("deep"),
    "prefix": prompt("prefix"),
    "pixel": prompt("pixel"),
    "LoRA": lora,
    "full": full_fine_tuning,
}
SEEDLESS = ("linear",)
"""Methods with the same outcome for every seed, measured once."""


def score(method: str, trial: Trial) -> Scored:
    """Train with one method and score it on the test rows, in fp32."""
    torch.manual_seed(trial.settings.seed)
    start = perf_counter()
    classifier = METHODS[method](trial)
    seconds = perf_counter() - start
    rows = trial.rows(trial.test)
    right = round(accuracy_of(classifier, rows, "fp32") * len(rows))
    return Scored(right, len(rows), bytes_of(classifier, trial.settings), seconds)


def bytes_of(classifier: PromptedClassifier, settings: TuneSettings) -> int:
    """Return what a task needs on disk: prompts and LoRAs in the dtype of their file, the rest in fp32."""
    trained: list[Tensor] = [*(classifier.head.parameters() if classifier.head is not None else ())]
    total = np.dtype(DTYPES[settings.dtype]).itemsize * classifier.prompt.numel()
    if isinstance(classifier, FineTuned):
        total += np.dtype(DTYPES[classifier.dtype]).itemsize * sum(weight.numel() for weight in classifier.trained())
    return total + _BYTES_A_NUMBER * sum(tensor.numel() for tensor in trained)


def compare(
    tasks: Sequence[str], methods: Sequence[str], seeds: int, trial_of: Callable[[str, int], Trial], prompts: str
) -> Measured:
    """Run every method on every task with every seed; for each task and seed, one method after the other.

    Args:
        tasks: Names of tasks.
        methods: Keys of `METHODS`.
        seeds: Number of seeds.
        trial_of: Returns the inputs of methods for a task and a seed, with a network of its own.
        prompts: The method that ratios compare with others, if it is among them.
    """
    found: dict[tuple[str, str], list[Scored]] = {}
    for task in tasks:
        for seed in range(seeds):
            for method in methods:
                if method not in SEEDLESS or seed == 0:
                    scored = score(method, trial_of(task, seed))
                    found.setdefault((task, method), []).append(scored)
                    print(f"{task}, {method}, seed {seed}: {scored.percent:.1f} %, {scored.seconds:.0f} s", flush=True)
    return measured(found, prompts)


def measured(found: Mapping[tuple[str, str], Sequence[Scored]], prompts: str) -> Measured:
    """Return the measurements as series, ratios and charts."""
    series: list[Series] = []
    for (task, method), scored in found.items():
        name, size = f"{task}: {method}", float(scored[0].bytes)
        series += [
            Series(name, "%", tuple(one.percent for one in scored), method, size, higher_is_better=True),
            Series(f"{name}, trained bytes", "bytes", (size,), method),
            Series(f"{name}, training", "s", tuple(one.seconds for one in scored), method),
        ]
    tasks = list(dict.fromkeys(task for task, _ in found))
    peers = [
        (task, method)
        for task, method in found
        if (task, prompts) in found and method in {"LoRA", "full"} and method != prompts
    ]
    ratios = [
        ratio
        for task, method in peers
        for ratio in (
            Ratio(f"{task}: accuracy, {prompts} over {method}", f"{task}: {prompts}", f"{task}: {method}"),
            Ratio(
                f"{task}: bytes, {method} over {prompts}",
                f"{task}: {method}, trained bytes",
                f"{task}: {prompts}, trained bytes",
            ),
        )
    ]
    names = {task: tuple(f"{task}: {method}" for of, method in found if of == task) for task in tasks}
    return Measured(
        series=tuple(series),
        ratios=tuple(ratios),
        charts=(
            *(Chart(f"Test accuracy by method: {task}", names[task]) for task in tasks),
            *(Chart(f"Test accuracy by trained bytes: {task}", names[task], x="trained bytes") for task in tasks),
        ),
        notes=tuple(over_rows(found, tasks)),
    )


def over_rows(found: Mapping[tuple[str, str], Sequence[Scored]], tasks: Sequence[str]) -> Iterator[str]:
    """Report how far each accuracy is uncertain because of the number of test rows, in one sentence per task.

    Test rows are resampled with replacement, over all seeds together, which is a binomial draw of correct rows.
    """
    random = np.random.default_rng(0)
    for task in tasks:
        said, rows = [], 0
        for (of, method), scored in found.items():
            if of == task:
                rows = scored[0].rows
                share = sum(one.right for one in scored) / (rows * len(scored))
                low, high = np.percentile(100 * random.binomial(rows, share, RESAMPLES) / rows, [2.5, 97.5])
                said.append(f"{method} {100 * share:.1f} ({low:.1f} to {high:.1f})")
        yield f"{task}, mean of seeds, and 95 % intervals by bootstrap over {rows:,} test rows: {', '.join(said)}."
