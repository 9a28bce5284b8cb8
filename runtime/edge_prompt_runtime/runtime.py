"""The runtime: one network in memory, any number of tasks, a task a call or a row."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from edge_prompt.base.errors import InputError
from edge_prompt_runtime.aio import Asynchronous
from edge_prompt_runtime.metrics.instrumentation import recorded
from edge_prompt_runtime.tasks.methods import Tasks

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from edge_prompt_runtime.answers.results import Classification, Detection, Segmentation, TokenLabel
    from edge_prompt_runtime.execution.network import Outputs
    from edge_prompt_runtime.generation.interfaces import Cancellation
    from edge_prompt_runtime.generation.results import Generation, Piece
    from edge_prompt_runtime.inputs.requests import Request
    from edge_prompt_runtime.metrics.stats import Stats
    from edge_prompt_runtime.signing.trust import Trust
    from edge_prompt_runtime.tasks.registry import TaskName
    from edge_prompt_runtime.tasks.task import Float32, Task

    Single = str | Path | bytes | Image
    """A text, or an image as its path, its bytes, or a Pillow image."""

COMPILED_BUDGET_BYTES = 256 * 2**20

PROMPTS_BUDGET_BYTES = 64 * 2**20


class Runtime(Tasks, Asynchronous):
    """Runs a bundle. Any number of threads may share one.

    Args:
        bundle: The bundle's folder.
        engine: `onnxruntime` or `openvino`; None takes the first that is installed.
        threads: How many threads the engine may use; None leaves it to the engine.
        precision: What the network is computed in: `f32`, or `bf16` on OpenVINO where the processor has it. Prompts are
            folded in f32 always.
        compiled_budget_bytes: Of a causal language model: how much memory the keys and values of compiled soft prompts
            may take together; beyond it, those used least recently are dropped and compiled anew when asked for.
        cache_precision: Of a causal language model: what keys and values are kept in, `f32`, or `f16` or `u8` on
            OpenVINO, which then takes more time; None is as `precision`.
        model_cache: A folder where the engine keeps its own optimised form of the graph, so that it opens faster the
            next time; made anew where the graph, the engine or the machine has changed. It is trusted as the program
            is: keep it where nobody else writes. Not used for language models on OpenVINO, which does not read its own
            form back.
        prompts: A folder of prompts, or several: every name in them is served, and read when it is first asked for.
        prompts_budget_bytes: How much memory the prompts and heads of these folders may take together; beyond it, those
            used least recently are let go and read anew when asked for, but for those that are pinned.
        trust: Who must have signed the bundle and every prompt; None takes them unsigned, but never altered.
        cores: The logical processors to compute on, threads that ask included; on Linux. None is all.
        spinning: On ONNX Runtime: whether threads that wait for work keep their cores busy, always or never; None does
            so while a request runs.
        memory_arena: On ONNX Runtime: memory that a request was computed in is `kept` for the next (None is that),
            `shrunk` after each request, or taken from the system piece by piece (`none`).

    Attributes:
        bundle: The bundle.
        engine: The name of the engine.
        store: The tasks of the folders.
        recorder: What counts requests, and what becomes of prompts; see `stats`.

    Raises:
        MissingFileError: There is no bundle, or no such folder of prompts.
        ManifestError: The bundle is malformed, altered, or from a newer format.
        TrustError: The bundle is not signed by whom it should be, or is not what was signed.
        UnknownEngineError: There is no such engine, or no graph for it.
        MissingExtraError: The engine, or the extra `sign` where there is a `trust`, is not installed.
        InputError: A setting is out of its range, or the engine does not have it here.
    """

    def __init__(
        self,
        bundle: str | Path,
        engine: str | None = None,
        threads: int | None = None,
        precision: str = "f32",
        compiled_budget_bytes: int = COMPILED_BUDGET_BYTES,
        cache_precision: str | None = None,
        model_cache: str | Path | None = None,
        prompts: str | Path | Sequence[str | Path] = (),
        prompts_budget_bytes: int = PROMPTS_BUDGET_BYTES,
        trust: Trust | None = None,
        *,
        cores: Iterable[int] | None = None,
        spinning: bool | None = None,
        memory_arena: str | None = None,
    ) -> None:
        # here, so that who imports this class waits for nothing that only an open bundle needs
        from edge_prompt_runtime.engines.cores import cores_of  # noqa: PLC0415
        from edge_prompt_runtime.engines.settings import EngineSettings  # noqa: PLC0415
        from edge_prompt_runtime.factory import open_bundle  # noqa: PLC0415

        cache = None if model_cache is None else Path(model_cache)
        opened = open_bundle(
            Path(bundle),
            engine,
            EngineSettings(threads, precision, cache_precision, cache, cores_of(cores), spinning, memory_arena),
            trust,
            compiled_budget_bytes,
            [Path(folder) for folder in ([prompts] if isinstance(prompts, str | Path) else prompts)],
            prompts_budget_bytes,
        )
        self.bundle, self.engine, self.recorder = opened.bundle, opened.engine, opened.recorder
        self._engine, self._requests, self._answers = opened.graph, opened.requests, opened.answers
        self._language, self._fold, self._loaded = opened.language, opened.fold, opened.loaded
        self.store = self._loaded.store

    def stats(self) -> Stats:
        """What was asked, how long answers took, what was loaded, let go and refused, and what is held, as of now."""
        return self.recorder.stats()

    @overload
    def classify(
        self, inputs: Single, task: TaskName = None, labels: Sequence[str] | None = None
    ) -> Classification: ...
    @overload
    def classify(
        self,
        inputs: Sequence[Any] | Mapping[str, NDArray[Any]],
        task: TaskName | Sequence[TaskName] = None,
        labels: Sequence[str] | None = None,
    ) -> list[Classification]: ...
    @recorded
    def classify(
        self, inputs: Any, task: TaskName | Sequence[TaskName] = None, labels: Sequence[str] | None = None
    ) -> Classification | list[Classification]:
        """Classify texts or images by the head of their task, or by the network's own head.

        A causal language model classifies by how likely the text of each label is to follow, and to be the end.

        Args:
            inputs: A text or an image (a path, bytes, a Pillow image, or an array `[height, width, 3]`), several of
                them, or the graph's arrays by name.
            task: The task of all rows, or one a row; None is the base model.
            labels: Of a causal language model: what to choose from; None is the labels of the task.

        Returns:
            One answer for one text or image, otherwise a list.

        Raises:
            UnknownTaskError: A task is not loaded.
            InputError: A row cannot be read, rows and tasks differ in number, or a task has nothing to classify by.
        """
        request, tasks, single = self._read(inputs, task)
        if self._language is not None:
            answers = self._language.classify(request, tasks, labels)
        elif labels is None:
            answers = self._answers.classify(request, tasks)
        else:
            raise InputError(
                found="labels for a backbone that classifies by a head",
                wanted="none: they are those of the head",
                remedy="leave them out",
            )
        return answers[0] if single else answers

    @overload
    def label_tokens(self, inputs: str, task: TaskName = None) -> list[TokenLabel]: ...  # type: ignore[overload-overlap]
    @overload
    def label_tokens(
        self, inputs: Sequence[str], task: TaskName | Sequence[TaskName] = None
    ) -> list[list[TokenLabel]]: ...
    @recorded
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
        self._require_backbone("token-classification")
        request, tasks, single = self._read_items(inputs, task)
        texts = [inputs] if isinstance(inputs, str) else inputs
        answers = self._answers.label_tokens(texts, request, tasks)
        return answers[0] if single else answers

    @overload
    def detect(self, inputs: Single, task: TaskName = None, threshold: float = 0.5) -> list[Detection]: ...
    @overload
    def detect(
        self, inputs: Sequence[Any], task: TaskName | Sequence[TaskName] = None, threshold: float = 0.5
    ) -> list[list[Detection]]: ...
    @recorded
    def detect(
        self, inputs: Any, task: TaskName | Sequence[TaskName] = None, threshold: float = 0.5
    ) -> list[Detection] | list[list[Detection]]:
        """Find objects in images by the network's own head (`object-detection`).

        Args:
            inputs: An image, or several.
            task: The task of all rows, or one a row; None is the base model.
            threshold: The least score of an object, 0 to 1.

        Returns:
            The objects of one image, the surest first, otherwise a list an image.

        Raises:
            UnknownTaskError: A task is not loaded.
            InputError: The backbone detects nothing, an image cannot be read, or rows and tasks differ in number.
        """
        self._require_backbone("object-detection")
        request, tasks, single = self._read_items(inputs, task)
        answers = self._answers.detect(request, tasks, threshold)
        return answers[0] if single else answers

    @overload
    def segment(self, inputs: Single, task: TaskName = None) -> Segmentation: ...
    @overload
    def segment(self, inputs: Sequence[Any], task: TaskName | Sequence[TaskName] = None) -> list[Segmentation]: ...
    @recorded
    def segment(self, inputs: Any, task: TaskName | Sequence[TaskName] = None) -> Segmentation | list[Segmentation]:
        """Label every pixel of images by the network's own head (`semantic-segmentation`).

        Args:
            inputs: An image, or several.
            task: The task of all rows, or one a row; None is the base model.

        Returns:
            The label map of one image, at its own size, otherwise a list.

        Raises:
            UnknownTaskError: A task is not loaded.
            InputError: The backbone segments nothing, an image cannot be read, or rows and tasks differ in number.
        """
        self._require_backbone("semantic-segmentation")
        request, tasks, single = self._read_items(inputs, task)
        answers = self._answers.segment(request, tasks)
        return answers[0] if single else answers

    @recorded
    def embed(self, inputs: Any, task: TaskName | Sequence[TaskName] = None) -> Float32:
        """The feature of each text or image, scaled to length 1 if the backbone's authors have it so.

        Args:
            inputs: A text or an image, several of them, or the graph's arrays by name.
            task: The task of all rows, or one a row; None is the base model.

        Returns:
            `[feature_size]` for one text or image, otherwise `[batch, feature_size]`; float32.

        Raises:
            UnknownTaskError: A task is not loaded.
            InputError: A row cannot be read, rows and tasks differ in number, or the backbone has no features.
        """
        self._answers.require_features()
        request, tasks, single = self._read(inputs, task)
        features = self._answers.embed(request, tasks)
        return features[0] if single else features

    @recorded
    def infer(self, feeds: Mapping[str, NDArray[Any]], task: TaskName | Sequence[TaskName] = None) -> Outputs:
        """Run the graph on arrays, with no pre- or postprocessing but the prompt.

        Args:
            feeds: The graph's own inputs by name, without those of prompts: of texts `input_ids [batch, sequence]`, and
                if you like `attention_mask` and `token_type_ids` of that shape; of images `pixel_values [batch,
                channels, height, width]`; of a backbone of your own the arrays that it was exported with.
            task: The task of all rows, or one a row; None is the base model.

        Returns:
            Every output of the graph by name.

        Raises:
            UnknownTaskError: A task is not loaded.
            InputError: An array is unknown, of another shape, or too long; or rows and tasks differ in number.
        """
        request, tasks, _ = self._read(feeds, task)
        return self._answers.infer(request, tasks)

    @overload
    def generate(
        self,
        inputs: Any,
        task: TaskName | Sequence[TaskName] = None,
        *,
        stream: Literal[False] = False,
        cancel: Cancellation | None = None,
        **settings: Any,
    ) -> Generation | list[Generation]: ...
    @overload
    def generate(
        self,
        inputs: Any,
        task: TaskName | Sequence[TaskName] = None,
        *,
        stream: Literal[True],
        cancel: Cancellation | None = None,
        **settings: Any,
    ) -> Generator[Piece]: ...
    @recorded
    def generate(
        self,
        inputs: Any,
        task: TaskName | Sequence[TaskName] = None,
        *,
        stream: bool = False,
        cancel: Cancellation | None = None,
        **settings: Any,
    ) -> Generation | list[Generation] | Generator[Piece]:
        """Go on from texts, by a causal language model (`text-generation`).

        Args:
            inputs: A text, token ids, the messages of a chat (`{"role": …, "content": …}` each), several of these, or
                `input_ids` and `attention_mask` by name. A text is put into the template of its task.
            task: The task of all rows, or one a row; None is the base model.
            stream: Whether to give pieces of text while it goes on; each says its row. Close the iterator to end early.
            cancel: A `threading.Event`: once it is set, from any thread, every row ends with `cancelled`.
            **settings: Fields of `edge_prompt_runtime.generation.settings.GenerationSettings`, before the model's own
                `generation_config.json`: `max_new_tokens`, `temperature` (0 is greedy), `top_k`, `top_p`, `min_p`,
                `repetition_penalty`, `seed`, `stop`, `stop_token_ids`, `top_logprobs`.

        Returns:
            The text of one request, otherwise a list; or an iterator of pieces.

        Raises:
            UnknownTaskError: A task is not loaded.
            InputError: The backbone generates nothing, a setting is unknown or out of range, or a row and the tokens
                asked for do not fit together.
            ChatTemplateError: The model's chat template does not take these messages.
            LogitsError: The network gave no numbers that a token can be chosen by.
        """
        self._require_backbone("text-generation")
        assert self._language is not None  # noqa: S101 - what generates is a language model
        request, tasks, single = self._read(inputs, task)
        pieces, requests = self._language.generate(request, tasks, settings, cancel)
        pieces = self.recorder.watched(pieces)
        if stream:
            return pieces
        from edge_prompt_runtime.generation.loop import collect  # noqa: PLC0415 - only they need it

        answers = collect(pieces, requests)
        return answers[0] if single else answers

    def _require_backbone(self, task: str) -> None:
        if self.bundle.manifest.backbone.task != task:
            raise InputError(
                found=f"a bundle for {self.bundle.manifest.backbone.task}",
                wanted=f"one for {task}",
                remedy=f"export a backbone that does it with --task {task}",
            )

    def _read(self, inputs: Any, task: TaskName | Sequence[TaskName]) -> tuple[Request, list[Task], bool]:
        """The arrays and task of every row, and whether one thing was asked about; tasks are looked up once, here."""
        if isinstance(inputs, Mapping):
            request = self._requests.take(inputs)
            tasks = self._loaded.of_rows(task, request.rows)
            self._requests.require_room(request, tasks)
            return request, tasks, False
        items, single = self._requests.items(inputs)
        tasks = self._loaded.of_rows(task, len(items))
        return self._requests.encode(items, tasks), tasks, single

    def _read_items(self, inputs: Any, task: TaskName | Sequence[TaskName]) -> tuple[Request, list[Task], bool]:
        """As `_read`, but of texts or images: what is found in them is said by its place in what came."""
        if isinstance(inputs, Mapping):
            raise InputError(found="arrays by name", wanted="texts or images", remedy="pass these, or use infer")
        return self._read(inputs, task)
