"""Answers of a causal language model: generated texts, and classes scored by the texts of their labels."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from edge_prompt.base.errors import InputError
from edge_prompt.formats.bundle import Bundle
from edge_prompt.formats.manifest import Graph
from edge_prompt.formats.problem_type import SINGLE_LABEL
from edge_prompt_runtime.answers.encoder import Answers
from edge_prompt_runtime.answers.results import Classification, classification_of
from edge_prompt_runtime.engines.base import Int64
from edge_prompt_runtime.execution.network import arrays_of
from edge_prompt_runtime.generation.interfaces import Cancellation
from edge_prompt_runtime.generation.loop import generate_pieces
from edge_prompt_runtime.generation.model_defaults import settings_from
from edge_prompt_runtime.generation.results import Piece
from edge_prompt_runtime.generation.row import RowRequest
from edge_prompt_runtime.inputs.chat.tokenizer import ChatTokenizer
from edge_prompt_runtime.inputs.requests import Request
from edge_prompt_runtime.language.model import LanguageModel
from edge_prompt_runtime.language.row_requests import read_generation_config, row_requests
from edge_prompt_runtime.language.scoring import label_scores
from edge_prompt_runtime.tasks.task import Task


class LanguageAnswers(Answers):
    """Answers prepared requests. Thread-safe.

    Args:
        bundle: The bundle.
        graph: The graph of the bundle that is run.
        model: The open network of that graph.
        tokenizer: The bundle's tokenizer.
    """

    def __init__(self, bundle: Bundle, graph: Graph, model: LanguageModel, tokenizer: ChatTokenizer) -> None:
        super().__init__(bundle, graph, model)
        self._bundle = bundle
        self._model = model
        self._tokenizer = tokenizer

    @cached_property
    def _config(self) -> Mapping[str, Any]:
        return read_generation_config(self._bundle)

    def generate(
        self, request: Request, asked: Mapping[str, Any], cancel: Cancellation | None
    ) -> tuple[Generator[Piece], list[RowRequest]]:
        """Return the iterator of generated pieces, and the request of each row.

        The engine is not used before the first piece is requested.

        Raises:
            InputError: A setting is unknown or out of range, or a row and its new tokens exceed the available
                positions.
        """
        requests = row_requests(request, self._config, asked)
        decoder = self._tokenizer.tokenizer if self._tokenizer.exists else None
        return generate_pieces(self._model.begin(request.tasks), requests, decoder, cancel), requests

    def classify(self, request: Request, labels: Sequence[str] | None = None) -> list[Classification]:
        """Classify each row by the label whose text is the most likely to follow and then end.

        Args:
            request: The rows.
            labels: The labels to choose from; None uses the labels of each row's task.

        Raises:
            InputError: There are no labels, a label is empty or repeated, or a row and a label exceed the available
                positions.
        """
        tasks = request.tasks
        ids, mask = arrays_of(request, range(len(tasks))).values()
        names_by_task = {task: tuple(task.labels if labels is None else labels) for task in tasks}
        tokens_by_task = {task: self._label_tokens(names, task) for task, names in names_by_task.items()}
        answers = []
        for row, task in enumerate(tasks):
            tokens, label_tokens = ids[row][mask[row] > 0], tokens_by_task[task]
            longest = max(map(len, label_tokens))
            if len(tokens) + longest > task.max_tokens:
                raise InputError(
                    found=f"row {row} has {len(tokens)} tokens plus up to {longest} of a label for {task.described}",
                    wanted=f"at most {task.max_tokens} tokens together",
                    remedy="shorten the row, or use a shorter prompt",
                )
            scores = label_scores(self._model, tokens, label_tokens, task)
            answers.append(classification_of(scores.astype(np.float32), names_by_task[task], SINGLE_LABEL))
        return answers

    def _label_tokens(self, labels: tuple[str, ...], task: Task) -> list[Int64]:
        """The tokens of each label with the end-of-text token, so that no label is a prefix of another."""
        if (
            not labels
            or len(set(labels)) < len(labels)
            or not all(isinstance(label, str) and label for label in labels)
        ):
            raise InputError(
                found=f"{task.described} has the labels {list(labels)[:8]}",
                wanted="distinct, non-empty labels",
                remedy="load a prompt whose card has labels, or pass labels=[…]",
            )
        end = settings_from(self._config).stop_token_ids[:1]
        return [np.array([*self._tokenizer.tokens_of_label(label), *end], np.int64) for label in labels]
