"""The runtime: one network in memory, any number of tasks, a task a call or a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from edge_prompt.bundle import Bundle, read_bundle
from edge_prompt.errors import InputError, MissingFileError, UnknownTaskError
from edge_prompt.prompt import PROMPT_SUFFIX
from edge_prompt_runtime.engines import open_engine
from edge_prompt_runtime.feeds import feeds_of
from edge_prompt_runtime.results import Classification, TokenLabel, classification_of, token_labels_of
from edge_prompt_runtime.tasks import Float32, Task, base_task, load_task
from edge_prompt_runtime.tokenizing import TextTokenizer, TokenBatch, require_known_tokens, token_batch_of

TaskName = str | None
"""The name a prompt was loaded under; None is the base model."""

TOKEN_CLASSIFICATION = "token-classification"


class Runtime:
    """Runs a bundle. Any number of threads may share one.

    Args:
        bundle: The bundle's folder.
        engine: `onnxruntime` or `openvino`; None takes the first that is installed.
        threads: How many threads the engine may use; None leaves it to the engine.

    Attributes:
        bundle: The bundle.
        engine: The name of the engine.

    Raises:
        MissingFileError: There is no bundle.
        ManifestError: The bundle is malformed, altered, or from a newer format.
        UnknownEngineError: There is no such engine, or no graph for it.
        MissingExtraError: The engine is not installed.
    """

    def __init__(self, bundle: str | Path, engine: str | None = None, threads: int | None = None) -> None:
        self.bundle: Bundle = read_bundle(Path(bundle))
        self.engine, self._engine = open_engine(self.bundle, engine, threads)
        self._inputs = self.bundle.graph(self.engine).inputs
        self._outputs = self.bundle.graph(self.engine).outputs
        self._base = base_task(self.bundle.manifest)
        self._tasks: dict[str, Task] = {}
        self._tokenizer: TextTokenizer | None = None

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the loaded tasks, in the order they were loaded."""
        return tuple(self._tasks)

    def task(self, name: TaskName) -> Task:
        """The task loaded under `name`; None is the base model.

        Raises:
            UnknownTaskError: Nothing is loaded under that name.
        """
        if name is None:
            return self._base
        found = self._tasks.get(name)
        if found is None:
            raise UnknownTaskError(
                found=f"the task {name!r}",
                wanted=f"one of {', '.join(self._tasks) or 'those loaded (none is)'}",
                remedy="load its prompt first",
            )
        return found

    def load(self, name: str, path: str | Path, kind: str | None = None) -> None:
        """Load a prompt as task `name`, in place of an older one of that name.

        Args:
            name: The name to ask for it by.
            path: The `.npy` file; its card and head lie beside it.
            kind: The kind of a bare `.npy` file whose shape leaves it open.

        Raises:
            EdgePromptError: The prompt is malformed or not for this bundle; an older prompt of that name stays.
        """
        self._tasks[name] = load_task(name, Path(path), kind, self.bundle, self._base)

    def load_all(self, folder: str | Path) -> tuple[str, ...]:
        """Load every prompt in `folder` under the name of its file; if one is refused, none is loaded.

        Returns:
            The names.

        Raises:
            MissingFileError: There is no such folder.
            EdgePromptError: A prompt is malformed or not for this bundle.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise MissingFileError(
                found=f"{folder}: no such folder", wanted="a folder of prompts", remedy="check the path"
            )
        paths = sorted(folder.glob(f"*{PROMPT_SUFFIX}"))
        loaded = {path.stem: load_task(path.stem, path, None, self.bundle, self._base) for path in paths}
        self._tasks.update(loaded)
        return tuple(loaded)

    def unload(self, name: str) -> None:
        """Forget the task `name`; requests under way end on it.

        Raises:
            UnknownTaskError: Nothing is loaded under that name.
        """
        self.task(name)
        self._tasks.pop(name, None)

    @overload
    def classify(self, inputs: str, task: TaskName = None) -> Classification: ...  # type: ignore[overload-overlap]
    @overload
    def classify(
        self, inputs: Sequence[str] | Mapping[str, NDArray[Any]], task: TaskName | Sequence[TaskName] = None
    ) -> list[Classification]: ...
    def classify(
        self, inputs: str | Sequence[str] | Mapping[str, NDArray[Any]], task: TaskName | Sequence[TaskName] = None
    ) -> Classification | list[Classification]:
        """Classify texts by the head of their task, or by the network's own head.

        Args:
            inputs: A text, several, or token arrays (`input_ids`, `attention_mask`, `token_type_ids`).
            task: The task of all rows, or one a row; None is the base model.

        Returns:
            One answer for one text, otherwise a list.

        Raises:
            UnknownTaskError: A task is not loaded.
            InputError: A text is empty, rows and tasks differ in number, or a task has nothing to classify by.
        """
        tokens, tasks = self._rows(inputs, task)
        for row_task in tasks:
            if row_task.head is None and ("logits" not in self._outputs or self._is_token_task):
                raise InputError(
                    found=f"{_described(row_task)} has no head and the backbone none that classifies a text",
                    wanted="a task with a head",
                    remedy="load a prompt that was tuned with one, or use embed, label_tokens or infer",
                )
        outputs = self._run(tokens, tasks, _outputs_for(tasks))
        answers = [
            classification_of(
                outputs["logits"][row] if task.head is None else task.head.logits(outputs["features"][row]), task.labels
            )
            for row, task in enumerate(tasks)
        ]
        return answers[0] if isinstance(inputs, str) else answers

    @overload
    def label_tokens(self, inputs: str, task: TaskName = None) -> list[TokenLabel]: ...  # type: ignore[overload-overlap]
    @overload
    def label_tokens(
        self, inputs: Sequence[str], task: TaskName | Sequence[TaskName] = None
    ) -> list[list[TokenLabel]]: ...
    def label_tokens(
        self, inputs: str | Sequence[str], task: TaskName | Sequence[TaskName] = None
    ) -> list[TokenLabel] | list[list[TokenLabel]]:
        """Classify every token of texts by the network's own head (`token-classification`).

        Args:
            inputs: A text, or several.
            task: The task of all rows, or one a row; None is the base model.

        Returns:
            The tokens of one text, otherwise a list a text.

        Raises:
            UnknownTaskError: A task is not loaded.
            InputError: The backbone classifies no tokens, a text is empty, or rows and tasks differ in number.
        """
        if self.bundle.manifest.backbone.task != TOKEN_CLASSIFICATION:
            raise InputError(
                found=f"a bundle for {self.bundle.manifest.backbone.task}",
                wanted=f"one for {TOKEN_CLASSIFICATION}",
                remedy=f"export the backbone with --task {TOKEN_CLASSIFICATION}",
            )
        tokens, tasks = self._rows(inputs, task)
        logits = self._run(tokens, tasks, ("logits",))["logits"]
        texts = [inputs] if isinstance(inputs, str) else inputs
        answers = [
            token_labels_of(text, logits[row], tokens.offsets[row], tasks[row].labels) for row, text in enumerate(texts)
        ]
        return answers[0] if isinstance(inputs, str) else answers

    def embed(
        self, inputs: str | Sequence[str] | Mapping[str, NDArray[Any]], task: TaskName | Sequence[TaskName] = None
    ) -> Float32:
        """The feature of each text, scaled to length 1 if the backbone's authors have it so.

        Args:
            inputs: A text, several, or token arrays.
            task: The task of all rows, or one a row; None is the base model.

        Returns:
            `[feature_size]` for one text, otherwise `[batch, feature_size]`; float32.

        Raises:
            UnknownTaskError: A task is not loaded.
            InputError: A text is empty, or rows and tasks differ in number.
        """
        tokens, tasks = self._rows(inputs, task)
        features: Float32 = self._run(tokens, tasks, ("features",))["features"]
        if self.bundle.manifest.preprocessing.normalize:
            features = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
        return features[0] if isinstance(inputs, str) else features

    def infer(
        self, feeds: Mapping[str, NDArray[Any]], task: TaskName | Sequence[TaskName] = None
    ) -> dict[str, NDArray[Any]]:
        """Run the graph on token arrays, with no pre- or postprocessing but the prompt.

        Args:
            feeds: `input_ids [batch, sequence]`, and if you like `attention_mask` and `token_type_ids` of that shape.
            task: The task of all rows, or one a row; None is the base model.

        Returns:
            Every output of the graph by name.

        Raises:
            UnknownTaskError: A task is not loaded.
            InputError: An array is unknown, of another shape, or too long; or rows and tasks differ in number.
        """
        tokens, tasks = self._rows(feeds, task)
        return self._run(tokens, tasks, self._outputs)

    @property
    def _is_token_task(self) -> bool:
        return self.bundle.manifest.backbone.task in {TOKEN_CLASSIFICATION, "fill-mask"}

    def _rows(
        self, inputs: str | Sequence[str] | Mapping[str, NDArray[Any]], task: TaskName | Sequence[TaskName]
    ) -> tuple[TokenBatch, list[Task]]:
        """The tokens and the task of every row; tasks are looked up once, here."""
        if isinstance(inputs, Mapping):
            tokens = token_batch_of(dict(inputs))
            require_known_tokens(tokens, self.bundle.manifest.preprocessing)
            tasks = self._tasks_of(task, len(tokens.input_ids))
            self._require_room(tokens, tasks)
            return tokens, tasks
        texts = [inputs] if isinstance(inputs, str) else list(inputs)
        tasks = self._tasks_of(task, len(texts))
        if self._tokenizer is None:
            self._tokenizer = TextTokenizer(self.bundle)
        return self._tokenizer.encode(texts, tasks), tasks

    def _tasks_of(self, task: TaskName | Sequence[TaskName], rows: int) -> list[Task]:
        if rows == 0:
            raise InputError(found="no text", wanted="at least one", remedy="leave out empty requests")
        if task is None or isinstance(task, str):
            return [self.task(task)] * rows
        if len(task) != rows:
            raise InputError(
                found=f"{rows} rows and {len(task)} tasks",
                wanted="a task a row",
                remedy="pass one task, or as many as rows",
            )
        return [self.task(name) for name in task]

    def _require_room(self, tokens: TokenBatch, tasks: Sequence[Task]) -> None:
        for row, task in enumerate(tasks):
            length = int(tokens.attention_mask[row].sum())
            if length > task.max_tokens:
                raise InputError(
                    found=f"row {row} of {length} tokens under {_described(task)}",
                    wanted=f"at most {task.max_tokens}",
                    remedy="cut the row, or use a shorter prompt",
                )

    def _run(self, tokens: TokenBatch, tasks: Sequence[Task], outputs: Sequence[str]) -> dict[str, NDArray[Any]]:
        return self._engine.run(feeds_of(tokens, tasks, self._inputs), outputs)


def _outputs_for(tasks: Sequence[Task]) -> tuple[str, ...]:
    """What heads read, and the network's own logits, each only if a row needs it."""
    headless = [task.head is None for task in tasks]
    return (("features",) if not all(headless) else ()) + (("logits",) if any(headless) else ())


def _described(task: Task) -> str:
    return f"task {task.name!r}" if task.name else "the base model"
