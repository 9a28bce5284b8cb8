"""Answers from the outputs of a network: features, the heads of tasks, and the network's own head."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_prompt.base.errors import InputError
from edge_prompt.formats.bundle import Bundle
from edge_prompt.formats.manifest import Graph
from edge_prompt.formats.preprocessing import ImagePreprocessing, TextPreprocessing
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
from edge_prompt_runtime.execution.network import Network, Outputs, batch_outputs, by_row
from edge_prompt_runtime.inputs.requests import Request
from edge_prompt_runtime.tasks.task import Float32, Task

if TYPE_CHECKING:
    from edge_prompt_runtime.generation.interfaces import Cancellation
    from edge_prompt_runtime.generation.results import Piece
    from edge_prompt_runtime.generation.row import RowRequest

CLASSIFICATION_TASKS = frozenset({"text-classification", "image-classification"})
"""Tasks of backbones whose own `logits` are `[batch, num_labels]`."""


LEAST_LENGTH = 1e-12
"""Vectors shorter than this are divided by it instead, as in torch."""


class Answers:
    """Answers prepared requests. Thread-safe.

    Args:
        bundle: The bundle.
        graph: The graph of the bundle that is run.
        network: The open network of that graph.
    """

    def __init__(self, bundle: Bundle, graph: Graph, network: Network) -> None:
        self._manifest = bundle.manifest
        preprocessing = bundle.manifest.preprocessing
        self._normalises = isinstance(preprocessing, TextPreprocessing | ImagePreprocessing) and preprocessing.normalize
        self._output_names = graph.outputs
        self._network = network

    def require_task(self, task: str) -> None:
        """Check that the network has the head that a method needs.

        Raises:
            InputError: The bundle is for another task.
        """
        if self._manifest.backbone.task != task:
            raise self._wrong_task(task)

    def classify(self, request: Request, labels: Sequence[str] | None = None) -> list[Classification]:
        """Classify each row with the head of its task or with the network's own.

        Raises:
            InputError: A task has no head or no labels to classify with, or labels were passed.
        """
        if labels is not None:
            raise InputError(
                found="labels were passed to a backbone that classifies with a head",
                wanted="no labels, because the head defines them",
                remedy="leave them out",
            )
        tasks = request.tasks
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
        found = batch_outputs(self._network, request, _outputs_for(tasks))
        return [
            classification_of(
                found["logits"][row] if task.head is None else task.head.logits(found["features"][row]),
                task.labels,
                task.problem_type,
            )
            for row, task in enumerate(tasks)
        ]

    def label_tokens(self, request: Request) -> list[list[TokenLabel]]:
        """Label the tokens of each text with the network's own head."""
        rows = by_row(self._network, request, ("logits",))
        return [
            token_labels_of(text, row["logits"], offsets, self._own_labels(task))
            for text, row, offsets, task in zip(request.texts, rows, request.offsets(), request.tasks, strict=True)
        ]

    def detect(self, request: Request, threshold: float) -> list[list[Detection]]:
        """Find the objects in each row with the network's own head; scores must exceed `threshold`."""
        rows = by_row(self._network, request, ("logits", "pred_boxes"))
        return [
            detections_of(row["logits"], row["pred_boxes"], size, self._own_labels(task), threshold)
            for row, size, task in zip(rows, request.sizes, request.tasks, strict=True)
        ]

    def segment(self, request: Request) -> list[Segmentation]:
        """Return the label map of each row, from the network's own head."""
        rows = by_row(self._network, request, ("logits",))
        return [
            segmentation_of(row["logits"], size, self._own_labels(task))
            for row, size, task in zip(rows, request.sizes, request.tasks, strict=True)
        ]

    def embed(self, request: Request) -> Float32:
        """Return the features `[batch, feature_size]`, L2-normalised if the backbone's configuration says so."""
        features: Float32 = batch_outputs(self._network, request, ("features",))["features"]
        if self._normalises:
            for vector in features:  # not over the batch: with cold caches, that takes twice as long
                np.divide(vector, max(math.sqrt(vector.dot(vector)), LEAST_LENGTH), vector)
        return features

    def infer(self, request: Request) -> Outputs:
        """Return every output of the graph for all rows.

        Raises:
            InputError: The shape of an output differs between rows.
        """
        return batch_outputs(self._network, request, self._output_names)

    def generate(
        self,
        request: Request,  # noqa: ARG002 - the arguments are those of a causal language model
        asked: Mapping[str, Any],  # noqa: ARG002
        cancel: Cancellation | None,  # noqa: ARG002
    ) -> tuple[Generator[Piece], list[RowRequest]]:
        """Refuse: only a causal language model generates text.

        Raises:
            InputError: Always.
        """
        raise self._wrong_task("text-generation")

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

    def _wrong_task(self, task: str) -> InputError:
        return InputError(
            found=f"this bundle is for {self._manifest.backbone.task}",
            wanted=f"one for {task}",
            remedy=f"export a suitable backbone with --task {task}",
        )

    def _own_labels(self, task: Task) -> tuple[str, ...]:
        """The class names of the network's own head; the labels of a task with a head belong to that head instead."""
        return task.labels if task.head is None else self._manifest.backbone.labels


def _outputs_for(tasks: Sequence[Task]) -> tuple[str, ...]:
    """The features for heads and the network's own logits, each only if a row needs it."""
    headless = [task.head is None for task in tasks]
    return (("features",) if not all(headless) else ()) + (("logits",) if any(headless) else ())
