"""The classifier that tuning starts from: a prompt, with the network's own head or a head fitted to its features."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from edge_prompt.base.errors import TrainingDataError
from edge_prompt.formats.problem_type import MULTI_LABEL, REGRESSION
from edge_prompt.formats.prompt import Head
from edge_prompt_export.backbone.backbone import LoadedBackbone
from edge_prompt_export.training.examples import Examples
from edge_prompt_export.training.metrics import EVALUATION_BATCH_SIZE, in_precision
from edge_prompt_export.training.probe import fit_head
from edge_prompt_export.training.prompted_network import PromptedClassifier
from edge_prompt_export.training.settings import TuneSettings


def classifier_of(
    backbone: LoadedBackbone, prompt: Tensor, training: Examples, labels: tuple[str, ...], settings: TuneSettings
) -> PromptedClassifier:
    """Create the classifier from the initial prompt.

    Raises:
        TrainingDataError: A class is not among those of the backbone's own head.
    """
    head, own_labels = None, []
    if settings.head == "own":
        own_labels = _own_labels(backbone, labels)
    else:
        start = PromptedClassifier(backbone.module, settings.kind, prompt, None)
        head = fit_head(*features_of(start, training, settings.precision), len(labels))
    return PromptedClassifier(backbone.module, settings.kind, prompt, head, own_labels, dropout=settings.dropout)


def features_of(classifier: PromptedClassifier, examples: Examples, precision: str) -> tuple[Tensor, Tensor]:
    """The features `[examples, feature_size]` and labels `[examples]`, in the order of `Examples.ordered`."""
    features, labels = [], []
    with torch.no_grad():
        for batch in examples.ordered(EVALUATION_BATCH_SIZE):
            with in_precision(precision):
                features.append(classifier.features(batch))
            labels.append(batch.labels)
    return torch.cat(features), torch.cat(labels)


def head_of(linear: nn.Linear) -> Head:
    """Convert a torch head to the form that is saved and used on the device."""
    weight, bias = (parameter.detach().numpy().astype(np.float32) for parameter in (linear.weight, linear.bias))
    return Head(weight, bias)


def _own_labels(backbone: LoadedBackbone, labels: tuple[str, ...]) -> list[int]:
    """The rows of the network's own head for `labels`, which must be exactly the classes of that head."""
    if backbone.problem_type in (REGRESSION, MULTI_LABEL) or len(backbone.labels) == 1:
        raise TrainingDataError(
            found=f"one label per example for a backbone whose own head is of the problem type {backbone.problem_type}"
            if backbone.problem_type
            else "one label per example for a backbone whose own head has a single logit",
            wanted="a head with one class per label",
            remedy="tune with --head linear",
        )
    unknown = [label for label in labels if label not in backbone.labels]
    if unknown or len(labels) != len(backbone.labels):
        raise TrainingDataError(
            found=f"the classes {', '.join(labels[:20])}",
            wanted=f"those of the backbone's own head: {', '.join(backbone.labels[:20])}",
            remedy="correct the labels, or tune with --head linear",
        )
    return [backbone.labels.index(label) for label in labels]
