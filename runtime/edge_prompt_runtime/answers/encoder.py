"""What a network answers by its features and its heads: all but what language models answer by their words."""

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
    """Answers read requests. Any number of threads may use one.

    Args:
        bundle: The bundle.
        graph: Its graph that is run.
        network: That graph, opened.
    """

    def __init__(self, bundle: Bundle, graph: Graph, network: Network) -> None:
        self._manifest = bundle.manifest
        self._output_names = graph.outputs
        self._network = network

    def classify(self, request: Request, tasks: Sequence[Task]) -> list[Classification]:
        """The class of each row, by the head of its task or by the network's own.

        Raises:
            InputError: A task has nothing to classify by.
        """
        for task in tasks:
            if task.head is None and self._manifest.backbone.task not in CLASSIFICATION_TASKS:
                raise InputError(
                    found=f"{task.described} has no head and the backbone none that classifies",
                    wanted="a task with a head",
                    remedy="load a prompt that was tuned with one, or ask what the backbone itself does",
                )
            if not task.labels:
                raise InputError(
                    found=f"{task.described} has no labels", wanted="labels", remedy="load a prompt with a card"
                )
            if task.head is not None:
                self.require_features()
        rows = by_row(self._network, request, tasks, _outputs_for(tasks))
        return [
            classification_of(row["logits"] if task.head is None else task.head.logits(row["features"]), task.labels)
            for row, task in zip(rows, tasks, strict=True)
        ]

    def label_tokens(self, texts: Sequence[str], request: Request, tasks: Sequence[Task]) -> list[list[TokenLabel]]:
        """The tokens of each row, by the network's own head; `texts` are those that `request` was read from."""
        rows = by_row(self._network, request, tasks, ("logits",))
        return [
            token_labels_of(text, row["logits"], offsets, self._own_labels(task))
            for text, row, offsets, task in zip(texts, rows, request.offsets, tasks, strict=True)
        ]

    def detect(self, request: Request, tasks: Sequence[Task], threshold: float) -> list[list[Detection]]:
        """The objects in each row, by the network's own head; their least score is `threshold`."""
        rows = by_row(self._network, request, tasks, ("logits", "pred_boxes"))
        return [
            detections_of(row["logits"], row["pred_boxes"], size, self._own_labels(task), threshold)
            for row, size, task in zip(rows, request.sizes, tasks, strict=True)
        ]

    def segment(self, request: Request, tasks: Sequence[Task]) -> list[Segmentation]:
        """The label map of each row, by the network's own head."""
        rows = by_row(self._network, request, tasks, ("logits",))
        return [
            segmentation_of(row["logits"], size, self._own_labels(task))
            for row, size, task in zip(rows, request.sizes, tasks, strict=True)
        ]

    def embed(self, request: Request, tasks: Sequence[Task]) -> Float32:
        """The features of all rows `[batch, feature_size]`, of length 1 if the backbone's authors have it so."""
        features: Float32 = np.stack([row["features"] for row in by_row(self._network, request, tasks, ("features",))])
        if getattr(self._manifest.preprocessing, "normalize", False):
            features = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
        return features

    def infer(self, request: Request, tasks: Sequence[Task]) -> Outputs:
        """Every output of the graph for all rows.

        Raises:
            InputError: The shape of an output differs between rows.
        """
        return outputs_together(self._network.groups(request, tasks, self._output_names), request.rows)

    def require_features(self) -> None:
        """Refuse a backbone that has none.

        Raises:
            InputError: It has none.
        """
        if "features" not in self._output_names:
            raise InputError(
                found="a backbone without features", wanted="one with an output named features", remedy="use infer"
            )

    def _own_labels(self, task: Task) -> tuple[str, ...]:
        """The class names of the network's own head under `task`; those of a task with a head are of that head."""
        return task.labels if task.head is None else self._manifest.backbone.labels


def _outputs_for(tasks: Sequence[Task]) -> tuple[str, ...]:
    """What heads read, and the network's own logits, each only if a row needs it."""
    headless = [task.head is None for task in tasks]
    return (("features",) if not all(headless) else ()) + (("logits",) if any(headless) else ())
