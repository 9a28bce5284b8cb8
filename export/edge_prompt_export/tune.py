"""Tune a prompt for a task: from examples to a `.npy` file with its card and head."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from edge_prompt.base.errors import InputError, UnsupportedArchitectureError
from edge_prompt.base.version import __version__
from edge_prompt.formats.card import TEMPLATE_FIELD, Card
from edge_prompt.formats.preprocessing import modality_of
from edge_prompt.formats.prompt import write_prompt
from edge_prompt.untrusted.npy import FloatArray
from edge_prompt_export.backbone.backbone import LABELLED_TASKS, LoadedBackbone, LoadOptions
from edge_prompt_export.backbone.conditioned_module import ConditionedModule
from edge_prompt_export.modalities.registry import load_backbone, read_dataset, recipe_of
from edge_prompt_export.training.classifiers import head_of
from edge_prompt_export.training.dataset import Dataset
from edge_prompt_export.training.loop import Observer, Outcome
from edge_prompt_export.training.metrics import Metrics
from edge_prompt_export.training.prompted_network import PromptedNetwork
from edge_prompt_export.training.recipe import Tuned
from edge_prompt_export.training.settings import DTYPES, TuneSettings


@dataclass(frozen=True)
class TunedPrompt:
    """The result of tuning.

    Attributes:
        path: The prompt file.
        card: The card of the prompt.
        figures: Metrics of the written prompt on the validation examples; None without validation examples.
        outcome: How training ended.
    """

    path: Path
    card: Card
    figures: Metrics | None
    outcome: Outcome

    @property
    def accuracy(self) -> float | None:
        """Accuracy on the validation examples, 0 to 1; None without validation examples."""
        return None if self.figures is None else self.figures.right


def tune_prompt(
    source: str | Path,
    train_file: str | Path,
    output: str | Path,
    *,
    validation_file: str | Path | None = None,
    settings: TuneSettings | None = None,
    task: str | None = None,
    pooling: str | None = None,
    options: LoadOptions | None = None,
    observer: Observer | None = None,
) -> TunedPrompt:
    """Tune a prompt on a frozen backbone and write it with its head and card.

    Args:
        source: The backbone: a local folder, or a name on the hub.
        train_file: Training examples. For text: a `.jsonl`, `.csv` or `.tsv` file with the fields `text` and `label`.
            For language models also a `.jsonl` file with `prompt` and `completion`, or with `messages`. For images: a
            folder with one subfolder per class, or a `.csv` file with the fields `path` and `label`.
        output: The `.npy` file to write.
        validation_file: Validation examples that select the best epoch; None keeps the last epoch.
        settings: Hyperparameters; None uses the defaults.
        task: As for `export_backbone`. It must be the same as at export, otherwise the fingerprints differ.
        pooling: As for `export_backbone`.
        options: How to load from a hub.
        observer: Receives the progress of training.

    Returns:
        The tuned prompt, as written.

    Raises:
        TrainingDataError: The data is malformed, has only one class, or has classes that do not fit the task.
        InputError: A setting is not one of its choices, or the output is not a `.npy` file.
        BackboneError: The backbone cannot be loaded.
        UnsupportedArchitectureError: The backbone does not take this kind of prompt.
    """
    settings = settings or TuneSettings()
    train_file, output = Path(train_file), Path(output)
    _require_settings(settings, output)
    dataset = read_dataset(train_file, None if validation_file is None else Path(validation_file))
    started = time.monotonic()
    backbone = load_backbone(str(source), task, pooling, options)
    tuned = tune_examples(backbone, dataset, settings, observer)
    network, outcome = tuned.network, tuned.outcome
    settings = settings.complete(modality_of(backbone.preprocessing))
    array = round_prompt(network, settings)
    figures = None if tuned.measure is None else tuned.measure()
    provenance = {
        "made_by": f"edge-prompt {__version__}",
        "backbone": backbone.source_name,
        "settings": {name: value for name, value in asdict(settings).items() if name != "template"},
        "data": dataset.provenance(),
        "figures": {
            **_validated(figures),
            **_validated_by_epoch(outcome),
            "kept_epoch": outcome.kept_epoch,
            "interrupted": outcome.interrupted,
            "seconds": round(time.monotonic() - started),
        },
    }
    card = write_prompt(
        output,
        array,
        settings.kind,
        backbone.fingerprint,
        head=None if network.head is None else head_of(network.head),
        labels=(backbone.labels if network.head is None else ()) or dataset.labels,
        template=recipe_of(backbone).card_template(backbone, dataset, settings),
        max_tokens=settings.max_tokens,
        provenance=provenance,
    )
    return TunedPrompt(output, card, figures, outcome)


def tune_examples(
    backbone: LoadedBackbone, dataset: Dataset[object], settings: TuneSettings, observer: Observer | None = None
) -> Tuned:
    """Tune on examples that are already in memory.

    Raises:
        UnsupportedArchitectureError: The backbone does not take this kind of prompt.
        InputError: The backbone does not read such examples, or the prompt leaves no room for a text.
        TrainingDataError: A class is not among those of the backbone's own head.
    """
    recipe = recipe_of(backbone)
    recipe.require(backbone, dataset)
    settings = settings.complete(modality_of(backbone.preprocessing))
    _require_backbone(backbone, settings)
    return recipe.tune(backbone, dataset, settings, observer)


def round_prompt(network: PromptedNetwork[ConditionedModule], settings: TuneSettings) -> FloatArray:
    """Round the prompt to the file's dtype, in the module too, so that metrics describe the file that is written."""
    array: FloatArray = np.ascontiguousarray(network.prompt.detach().numpy().astype(DTYPES[settings.dtype]))
    with torch.no_grad():
        network.prompt.copy_(torch.from_numpy(array.astype(np.float32)))
    return array


def _validated(figures: Metrics | None) -> dict[str, float | None]:
    if figures is None:
        return {"validation_accuracy": None}
    return {f"validation_{name}": value for name, value in figures.as_json().items()}


def _validated_by_epoch(outcome: Outcome) -> dict[str, list[float]]:
    epochs = [figures.as_json() for figures in outcome.figures]
    names = epochs[0] if epochs else ("accuracy",)
    return {f"validation_{name}_by_epoch": [epoch[name] for epoch in epochs] for name in names}


def _require_settings(settings: TuneSettings, output: Path) -> None:
    if output.suffix != ".npy":
        raise InputError(found=f"the output {output}", wanted="a name that ends in .npy", remedy="rename it")
    if settings.template.count(TEMPLATE_FIELD) != 1:
        raise InputError(
            found=f"the template {settings.template!r}",
            wanted=f"a template that contains {TEMPLATE_FIELD} exactly once",
            remedy=f"put {TEMPLATE_FIELD} where the text goes",
        )


def _require_backbone(backbone: LoadedBackbone, settings: TuneSettings) -> None:
    module = backbone.module
    if settings.kind not in module.kinds:
        raise UnsupportedArchitectureError(
            found=module.refused_kinds.get(settings.kind, f"{backbone.source} takes no {settings.kind} prompts"),
            wanted=f"a kind of prompt that it takes: {', '.join(module.kinds)}",
            remedy=f"choose another kind (--kind {next(iter(module.kinds))})",
        )
    if settings.head == "own" and not (module.task in LABELLED_TASKS and module.task.endswith("-classification")):
        raise InputError(
            found=f"the backbone's own head is for {module.task}",
            wanted="a classification head",
            remedy="tune with --head linear, or use a checkpoint with a classification head",
        )
