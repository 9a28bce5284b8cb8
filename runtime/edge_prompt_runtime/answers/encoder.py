"""Answers from the features and heads of a network, as opposed to texts of a language model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_prompt.base.errors import InputError
from edge_prompt.formats.bundle import Bundle
from edge_prompt.formats.manifest import Graph
from edge_prompt_runtime.answers.results import (
    Classification,
    Detection,
    Segmentation,
    TokenLabel,
    classification_of,
    detections_of,
    segmentation_of,
    token_labels_of,
)
from edge_prompt_runtime.execution.feeds import outputs_together
from edge_prompt_runtime.execution.network import Network, Outputs, by_row
from edge_prompt_runtime.inputs.requests import Request
from edge_prompt_runtime.tasks.task import Float32, Task

CLASSIFICATION_TASKS = frozenset({"text-classification", "image-classification"})
"""Tasks of backbones whose own `logits` are `[batch, num_labels]`."""


class Answers:
    """Answers prepared requests. Thread-safe.

    Args:
        bundle: The bundle.
        graph: The graph of the bundle that is run.
        network: The open network of that graph.
    """

    def __init__(self, bundle: Bundle, graph: Graph, network: Network) -> None:
        self._manifest = bundle.manifest
        self._output_names = graph.outputs
        self._network = network

    def classify(self, request: Request, tasks: Sequence[Task]) -> list[Classification]:
        """Classify each row with the head of its task or with the network's own.

        Raises:
            InputError: A task has no head or no labels to classify with.
        """
        for task in tasks:
            if task.head is None and self._manifest.backbone.task not in CLASSIFICATION_TASKS:
                raise InputError(
                    found=f"{task.described} has no head, and the backbone has no classification head",
                    wanted="a task with a head",
                    remedy="load a prompt that was tuned with a head, or call the method for the backbone's own task",
                )
            if not task.labels:
                raise InputError(
                    found=f"{task.described} has no labels",
                    wanted="a task with labels",
                    remedy="load a prompt whose card names its labels",
                )
            if task.head is not None:
                self.require_features()
        rows = by_row(self._network, request, tasks, _outputs_for(tasks))
        return [
            classification_of(row["logits"] if task.head is None else task.head.logits(row["features"]), task.labels)
            for row, task in zip(rows, tasks, strict=True)
        ]

    def label_tokens(self, texts: Sequence[str], request: Request, tasks: Sequence[Task]) -> list[list[TokenLabel]]:
        """Label the tokens of each row with the network's own head; `texts` are the texts that `request` encodes."""
        rows = by_row(self._network, request, tasks, ("logits",))
        return [
            token_labels_of(text, row["logits"], offsets, self._own_labels(task))
            for text, row, offsets, task in zip(texts, rows, request.offsets, tasks, strict=True)
        ]

    def detect(self, request: Request, tasks: Sequence[Task], threshold: float) -> list[list[Detection]]:
        """Find the objects in each row with the network's own head; scores must exceed `threshold`."""
        rows = by_row(self._network, request, tasks, ("logits", "pred_boxes"))
        return [
            detections_of(row["logits"], row["pred_boxes"], size, self._own_labels(task), threshold)
            for row, size, task in zip(rows, request.sizes, tasks, strict=True)
        ]

    def segment(self, request: Request, tasks: Sequence[Task]) -> list[Segmentation]:
        """Return the label map of each row, from the network's own head."""
        rows = by_row(self._network, request, tasks, ("logits",))
        return [
            segmentation_of(row["logits"], size, self._own_labels(task))
            for row, size, task in zip(rows, request.sizes, tasks, strict=True)
        ]

    def embed(self, request: Request, tasks: Sequence[Task]) -> Float32:
        """Return the features `[batch, feature_size]`, L2-normalised if the backbone's configuration says so."""
        features: Float32 = np.stack([row["features"] for row in by_row(self._network, request, tasks, ("features",))])
        if getattr(self._manifest.preprocessing, "normalize", False):
            features = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
        return features

    def infer(self, request: Request, tasks: Sequence[Task]) -> Outputs:
        """Return every output of the graph for all rows.

        Raises:
            InputError: The shape of an output differs between rows.
        """
        return outputs_together(self._network.groups(request, tasks, self._output_names), request.rows)

    def require_features(self) -> None:
        """Check that the backbone has features.

        Raises:
            InputError: It has no features.
        """
        if "features" not in self._output_names:
            raise InputError(
                found="this backbone has no features",
                wanted="a backbone with an output named features",
                remedy="use infer",
            )

    def _own_labels(self, task: Task) -> tuple[str, ...]:
        """The class names of the network's own head; the labels of a task with a head belong to that head instead."""
        return task.labels if task.head is None else self._manifest.backbone.labels


def _outputs_for(tasks: Sequence[Task]) -> tuple[str, ...]:
    """The features for heads and the network's own logits, each only if a row needs it."""
    headless = [task.head is None for task in tasks]
    return (("features",) if not all(headless) else ()) + (("logits",) if any(headless) else ())
