"""Tuning a prompt for a task: from labelled texts to a `.npy` file with its card and head."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_prompt.arrays import FloatArray
from edge_prompt.card import TEMPLATE_FIELD, Card
from edge_prompt.errors import InputError, TrainingDataError, UnsupportedArchitectureError
from edge_prompt.files import sha256_of
from edge_prompt.prompt import Head, write_prompt
from edge_prompt.version import __version__
from edge_prompt_export.loading import LoadedBackbone, LoadOptions, load_backbone
from edge_prompt_export.tuning.batches import Row, sorted_batches, tokenise
from edge_prompt_export.tuning.data import (
    Example,
    labels_of,
    read_examples,
    require_known_labels,
    split_validation,
)
from edge_prompt_export.tuning.initialise import initial_prompt, token_source
from edge_prompt_export.tuning.loop import (
    EVALUATION_BATCH_SIZE,
    LoopSettings,
    Observer,
    Outcome,
    accuracy_of,
    in_precision,
    train,
)
from edge_prompt_export.tuning.probe import fit_head
from edge_prompt_export.tuning.prompted import PromptedClassifier

VALIDATION_SHARE = 0.1
"""What is split off the training file for validation where no other file is given."""

LEARNING_RATES = {"soft": 3e-2, "prefix": 3e-2}
"""AdamW's learning rate for a prompt, by kind; measured by `benchmarks/quality.py`."""

HEADS = ("linear", "own")
DTYPES = {"float32": np.float32, "float16": np.float16}


@dataclass(frozen=True)
class TuneSettings:
    """How a prompt is tuned; every one is recorded in its card.

    Attributes:
        kind: `soft` or `prefix`.
        virtual_tokens: How many virtual tokens.
        head: `linear` tunes a head of the task's own, `own` goes through the network's.
        init: Where the prompt starts: `training-text`, `vocabulary`, or `text` with `init_text`.
        init_text: The text for `init="text"`.
        learning_rate: Of the prompt; None takes the kind's of `LEARNING_RATES`.
        head_learning_rate: Of the head.
        epochs: Passes over the training examples.
        batch_size: Texts a forward.
        accumulate: Forwards an optimiser step.
        schedule: `cosine`, `one-cycle` or `constant`.
        patience: Epochs without improvement after which tuning ends; None goes on to the end.
        max_tokens: Tokens of a text that are read, special tokens included; None reads all that the backbone takes.
        template: The text put around every text, with `{text}` where that goes.
        dropout: Whether the network's own dropout is on while tuning.
        precision: `fp32` or `bf16` (quicker where the processor has it).
        dtype: Of the file: `float32` or `float16`.
        seed: For the split, the order and what is drawn.
    """

    kind: str = "prefix"
    virtual_tokens: int = 16
    head: str = "linear"
    init: str = "training-text"
    init_text: str | None = None
    learning_rate: float | None = None
    head_learning_rate: float = 3e-3
    epochs: int = 5
    batch_size: int = 32
    accumulate: int = 1
    schedule: str = "cosine"
    patience: int | None = None
    max_tokens: int | None = None
    template: str = TEMPLATE_FIELD
    dropout: bool = False
    precision: str = "fp32"
    dtype: str = "float32"
    seed: int = 0


@dataclass(frozen=True)
class TunedPrompt:
    """What tuning ended with.

    Attributes:
        path: The prompt file.
        card: Its card.
        accuracy: On the validation examples, as the file was written, 0 to 1.
        outcome: How training went.
    """

    path: Path
    card: Card
    accuracy: float
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
        train_file: Texts and labels: `.jsonl`, `.csv` or `.tsv` with the fields `text` and `label`.
        output: The `.npy` file to write.
        validation_file: Examples to choose the best checkpoint by; None splits off a tenth of `train_file`.
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
    settings = replace(settings, learning_rate=settings.learning_rate or LEARNING_RATES[settings.kind])
    train_file, output = Path(train_file), Path(output)
    _require_settings(settings, output)
    examples = read_examples(train_file)
    labels = labels_of(examples, train_file)
    if validation_file is None:
        training, held = split_validation(examples, VALIDATION_SHARE, settings.seed)
    else:
        training, held = examples, read_examples(Path(validation_file))
        require_known_labels(held, labels, Path(validation_file))
    started = time.monotonic()
    backbone = load_backbone(str(source), task, pooling, options)
    classifier, outcome, rows = tune_examples(backbone, training, held, labels, settings, observer)
    array = _rounded(classifier, settings)
    accuracy = accuracy_of(classifier, rows, pad_token_id_of(backbone), settings.precision)
    provenance = {
        "made_by": f"edge-prompt {__version__}",
        "backbone": backbone.source_name,
        "settings": {name: value for name, value in asdict(settings).items() if name != "template"},
        "data": _described(train_file, examples, held, validation_file),
        "figures": {
            "validation_accuracy": round(accuracy, 4),
            "validation_accuracy_by_epoch": [round(value, 4) for value in outcome.accuracies],
            "best_epoch": outcome.best_epoch,
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
        labels=labels if classifier.head is not None else backbone.labels,
        template=settings.template,
        max_tokens=settings.max_tokens,
        provenance=provenance,
    )
    return TunedPrompt(output, card, accuracy, outcome)


def tune_examples(
    backbone: LoadedBackbone,
    training: Sequence[Example],
    held: Sequence[Example],
    labels: tuple[str, ...],
    settings: TuneSettings,
    observer: Observer | None = None,
) -> tuple[PromptedClassifier, Outcome, list[Row]]:
    """Tune on examples in memory.

    Returns:
        The classifier with the best parameters, how training went, and the validation rows.

    Raises:
        UnsupportedArchitectureError: The backbone does not take that kind of prompt.
        InputError: The backbone has no tokenizer, or the prompt leaves no room for a text.
        TrainingDataError: A class is not among those of the backbone's own head.
    """
    _require_backbone(backbone, settings)
    torch.manual_seed(settings.seed)
    max_tokens = _max_tokens(backbone, settings)
    assert backbone.tokenizer is not None  # noqa: S101 - _require_backbone saw to it
    rows = tokenise(training, labels, backbone.tokenizer, settings.template, max_tokens)
    validation = tokenise(held, labels, backbone.tokenizer, settings.template, max_tokens)
    ids = token_source(settings.init, settings.init_text, backbone, rows, settings.virtual_tokens, settings.seed)
    prompt = initial_prompt(settings.kind, backbone.module, ids)
    pad = pad_token_id_of(backbone)
    head, own_labels = None, []
    if settings.head == "own":
        own_labels = _own_labels(backbone, labels)
    else:
        start = PromptedClassifier(backbone.module, settings.kind, prompt, None)
        head = fit_head(*features_of(start, rows, pad, settings.precision), len(labels))
    classifier = PromptedClassifier(backbone.module, settings.kind, prompt, head, own_labels, dropout=settings.dropout)
    groups = [{"params": [classifier.prompt], "lr": settings.learning_rate or LEARNING_RATES[settings.kind]}]
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
    return classifier, train(classifier, groups, rows, validation, pad, loop, observer), validation


def features_of(
    classifier: PromptedClassifier, rows: Sequence[Row], pad_token_id: int, precision: str
) -> tuple[Tensor, Tensor]:
    """The features `[examples, feature_size]` and labels `[examples]` of `rows`, in an order of their own."""
    features, labels = [], []
    with torch.no_grad():
        for batch in sorted_batches(rows, EVALUATION_BATCH_SIZE, pad_token_id):
            with in_precision(precision):
                features.append(classifier.features(batch))
            labels.append(batch.labels)
    return torch.cat(features), torch.cat(labels)


def head_of(linear: nn.Linear) -> Head:
    """A torch head as the device has it."""
    weight, bias = (parameter.detach().numpy().astype(np.float32) for parameter in (linear.weight, linear.bias))
    return Head(weight, bias)


def prompt_array(classifier: PromptedClassifier, kind: str) -> NDArray[np.float32]:
    """The classifier's prompt with the axes of a prompt file: without the batch that the graph's input has."""
    array = classifier.prompt.detach().numpy()
    return np.ascontiguousarray(array[0] if kind == "soft" else array[:, :, 0], dtype=np.float32)


def pad_token_id_of(backbone: LoadedBackbone) -> int:
    """What fills rows up."""
    return int(getattr(backbone.tokenizer, "pad_token_id", None) or 0)


def _rounded(classifier: PromptedClassifier, settings: TuneSettings) -> FloatArray:
    """The prompt in the file's dtype; the classifier's own becomes the same numbers, so figures are the file's."""
    array: FloatArray = prompt_array(classifier, settings.kind).astype(DTYPES[settings.dtype])
    with torch.no_grad():
        classifier.prompt.copy_(torch.from_numpy(array.astype(np.float32)).reshape(classifier.prompt.shape))
    return array


def _described(
    train_file: Path, examples: Sequence[Example], held: Sequence[Example], validation_file: str | Path | None
) -> dict[str, object]:
    return {
        "file": train_file.name,
        "sha256": sha256_of(train_file),
        "examples": len(examples),
        "validation_file": None if validation_file is None else Path(validation_file).name,
        "validation_examples": len(held),
    }


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
    if settings.kind == "prefix" and module.prefix_refusal:
        raise UnsupportedArchitectureError(
            found=module.prefix_refusal,
            wanted="a backbone that takes a prefix",
            remedy="tune a soft prompt (--kind soft)",
        )
    if backbone.tokenizer is None:
        raise InputError(
            found=f"{backbone.source} has no tokenizer", wanted="one", remedy="put its files into the folder"
        )
    if settings.head == "own" and module.task != "text-classification":
        raise InputError(
            found=f"the backbone's own head is for {module.task}",
            wanted="text-classification",
            remedy="tune with --head linear, or load a checkpoint that classifies texts",
        )


def _max_tokens(backbone: LoadedBackbone, settings: TuneSettings) -> int:
    room = backbone.max_tokens
    if backbone.max_positions is not None:
        room = min(room, backbone.max_positions - settings.virtual_tokens)
    wanted = room if settings.max_tokens is None else settings.max_tokens
    if wanted > room or room < 3:
        raise InputError(
            found=f"{wanted} tokens of a text beside {settings.virtual_tokens} virtual tokens",
            wanted=f"at most {max(room, 0)}",
            remedy="pass smaller --max-tokens or --virtual-tokens",
        )
    return wanted


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
