"""Tuning a prompt for a task: from labelled texts or images to a `.npy` file with its card and head."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edge_prompt.arrays import FloatArray
from edge_prompt.card import TEMPLATE_FIELD, Card
from edge_prompt.errors import InputError, TrainingDataError, UnsupportedArchitectureError
from edge_prompt.preprocessing import modality_of
from edge_prompt.prompt import Head, write_prompt
from edge_prompt.version import __version__
from edge_prompt_export.loading import LABELLED_TASKS, LoadedBackbone, LoadOptions, load_backbone
from edge_prompt_export.tuning.examples import Examples
from edge_prompt_export.tuning.loop import (
    EVALUATION_BATCH_SIZE,
    LoopSettings,
    Observer,
    Outcome,
    accuracy_of,
    in_precision,
    train,
)
from edge_prompt_export.tuning.modalities import MODALITIES, Labelled, read_labelled
from edge_prompt_export.tuning.pixel_forms import PIXEL_FORMS
from edge_prompt_export.tuning.probe import fit_head
from edge_prompt_export.tuning.prompted import PromptedClassifier
from edge_prompt_export.tuning.settings import DTYPES, TuneSettings


@dataclass(frozen=True)
class TunedPrompt:
    """What tuning ended with.

    Attributes:
        path: The prompt file.
        card: Its card.
        accuracy: On the validation examples, as the file was written, 0 to 1; None without such examples.
        outcome: How training went.
    """

    path: Path
    card: Card
    accuracy: float | None
    outcome: Outcome


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
    """Tune a prompt on a frozen backbone and write it, with its head and card.

    Args:
        source: The backbone: a local folder, or a name on the hub.
        train_file: Texts and labels: `.jsonl`, `.csv` or `.tsv` with the fields `text` and `label`. Images: a folder
            that holds a folder a class, or a `.csv` with the fields `path` and `label`.
        output: The `.npy` file to write.
        validation_file: Examples to choose the best epoch by; None keeps the last.
        settings: How; None takes the defaults.
        task: As for `export_backbone`; it must be the same as at export, or the fingerprints differ.
        pooling: As for `export_backbone`.
        options: How to load from a hub.
        observer: Who is told how it goes.

    Returns:
        What was written.

    Raises:
        TrainingDataError: The data is malformed, has one class, or classes that do not fit.
        InputError: A setting is not one of its choices, or the output is no `.npy` file.
        BackboneError: The backbone cannot be loaded.
        UnsupportedArchitectureError: It does not take that kind of prompt.
    """
    settings = settings or TuneSettings()
    train_file, output = Path(train_file), Path(output)
    _require_settings(settings, output)
    labelled = read_labelled(train_file, None if validation_file is None else Path(validation_file))
    started = time.monotonic()
    backbone = load_backbone(str(source), task, pooling, options)
    settings = settings.complete(labelled.require(modality_of(backbone.preprocessing), backbone))
    classifier, outcome, validation = tune_examples(backbone, labelled, settings, observer)
    array = round_prompt(classifier, settings)
    accuracy = None if validation is None else accuracy_of(classifier, validation, settings.precision)
    provenance = {
        "made_by": f"edge-prompt {__version__}",
        "backbone": backbone.source_name,
        "settings": {name: value for name, value in asdict(settings).items() if name != "template"},
        "data": labelled.described(),
        "figures": {
            "validation_accuracy": None if accuracy is None else round(accuracy, 4),
            "validation_accuracy_by_epoch": [round(value, 4) for value in outcome.accuracies],
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
        head=None if classifier.head is None else head_of(classifier.head),
        labels=labelled.labels if classifier.head is not None else backbone.labels,
        template=settings.template,
        max_tokens=settings.max_tokens,
        provenance=provenance,
    )
    return TunedPrompt(output, card, accuracy, outcome)


def tune_examples(
    backbone: LoadedBackbone, labelled: Labelled, settings: TuneSettings, observer: Observer | None = None
) -> tuple[PromptedClassifier, Outcome, Examples | None]:
    """Tune on examples in memory.

    Returns:
        The classifier as it was kept, how training went, and the validation examples.

    Raises:
        UnsupportedArchitectureError: The backbone does not take that kind of prompt.
        InputError: The backbone takes no such examples, or the prompt leaves no room for a text.
        TrainingDataError: A class is not among those of the backbone's own head.
    """
    name = labelled.require(modality_of(backbone.preprocessing), backbone)
    settings = settings.complete(name)
    _require_backbone(backbone, settings)
    torch.manual_seed(settings.seed)
    modality = MODALITIES[name]
    training = modality.examples(backbone, labelled.training, labelled.labels, settings)
    validation = modality.examples(backbone, labelled.held, labelled.labels, settings) if labelled.held else None
    prompt = modality.initial(backbone, training, settings)
    head, own_labels = None, []
    if settings.head == "own":
        own_labels = _own_labels(backbone, labelled.labels)
    else:
        start = PromptedClassifier(backbone.module, settings.kind, prompt, None)
        head = fit_head(*features_of(start, training, settings.precision), len(labelled.labels))
    classifier = PromptedClassifier(backbone.module, settings.kind, prompt, head, own_labels, dropout=settings.dropout)
    if settings.kind == "pixel":  # where the form is not, no gradient comes and the prompt stays at zero
        mask = PIXEL_FORMS[settings.pixel_form](*prompt.shape[1:])
        classifier.prompt.register_hook(lambda gradient: gradient * mask)  # type: ignore[no-untyped-call]
    groups: list[dict[str, object]] = [{"params": [classifier.prompt], "lr": settings.learning_rate}]
    if classifier.head is not None:
        groups.append({"params": list(classifier.head.parameters()), "lr": settings.head_learning_rate})
    loop = LoopSettings(
        settings.epochs,
        settings.batch_size,
        settings.accumulate,
        settings.schedule,
        settings.patience,
        settings.precision,
        settings.seed,
    )
    return classifier, train(classifier, groups, training, validation, loop, observer), validation


def features_of(classifier: PromptedClassifier, examples: Examples, precision: str) -> tuple[Tensor, Tensor]:
    """The features `[examples, feature_size]` and labels `[examples]`, in an order of their own."""
    features, labels = [], []
    with torch.no_grad():
        for batch in examples.ordered(EVALUATION_BATCH_SIZE):
            with in_precision(precision):
                features.append(classifier.features(batch))
            labels.append(batch.labels)
    return torch.cat(features), torch.cat(labels)


def head_of(linear: nn.Linear) -> Head:
    """A torch head as the device has it."""
    weight, bias = (parameter.detach().numpy().astype(np.float32) for parameter in (linear.weight, linear.bias))
    return Head(weight, bias)


def round_prompt(classifier: PromptedClassifier, settings: TuneSettings) -> FloatArray:
    """The prompt in the file's dtype; the classifier's own becomes the same numbers, so figures are the file's."""
    array: FloatArray = np.ascontiguousarray(classifier.prompt.detach().numpy().astype(DTYPES[settings.dtype]))
    with torch.no_grad():
        classifier.prompt.copy_(torch.from_numpy(array.astype(np.float32)))
    return array


def _require_settings(settings: TuneSettings, output: Path) -> None:
    if output.suffix != ".npy":
        raise InputError(found=f"the output {output}", wanted="a name that ends in .npy", remedy="rename it")
    if settings.template.count(TEMPLATE_FIELD) != 1:
        raise InputError(
            found=f"the template {settings.template!r}",
            wanted=f"{TEMPLATE_FIELD} in it, once",
            remedy="put it where the text goes",
        )


def _require_backbone(backbone: LoadedBackbone, settings: TuneSettings) -> None:
    module = backbone.module
    if settings.kind not in module.kinds:
        raise UnsupportedArchitectureError(
            found=module.refused_kinds.get(settings.kind, f"{backbone.source} takes no {settings.kind} prompts"),
            wanted=f"a prompt of a kind that it takes: {', '.join(module.kinds)}",
            remedy=f"tune such a one (--kind {next(iter(module.kinds))})",
        )
    if settings.head == "own" and not (module.task in LABELLED_TASKS and module.task.endswith("-classification")):
        raise InputError(
            found=f"the backbone's own head is for {module.task}",
            wanted="one that classifies",
            remedy="tune with --head linear, or load a checkpoint that classifies",
        )


def _own_labels(backbone: LoadedBackbone, labels: tuple[str, ...]) -> list[int]:
    """The rows of the network's own head for `labels`; the head gives them all, so all must be there."""
    unknown = [label for label in labels if label not in backbone.labels]
    if unknown or len(labels) != len(backbone.labels):
        raise TrainingDataError(
            found=f"the classes {', '.join(labels[:20])}",
            wanted=f"those of the backbone's own head: {', '.join(backbone.labels[:20])}",
            remedy="correct the labels, or tune with --head linear",
        )
    return [backbone.labels.index(label) for label in labels]
