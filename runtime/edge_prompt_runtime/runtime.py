"""The runtime: one network in memory and any number of tasks, chosen per call or per row."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from edge_prompt.base.errors import InputError
from edge_prompt_runtime.aio import Asynchronous, asynchronous
from edge_prompt_runtime.metrics.call import Call
from edge_prompt_runtime.tasks.task_methods import TaskMethods

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

    from edge_prompt_runtime.answers.results import Classification, Detection, Segmentation, TokenLabel
    from edge_prompt_runtime.execution.network import Outputs
    from edge_prompt_runtime.generation.interfaces import Cancellation
    from edge_prompt_runtime.generation.results import Generation, Piece
    from edge_prompt_runtime.metrics.stats import Stats
    from edge_prompt_runtime.signing.trust import Trust
    from edge_prompt_runtime.tasks.registry import TaskName
    from edge_prompt_runtime.tasks.task import Float32

    Single = str | Path | bytes | Image
    """A text, or an image as its path, its bytes, or a Pillow image."""

COMPILED_BUDGET_BYTES = 256 * 2**20

PROMPTS_BUDGET_BYTES = 64 * 2**20


class Runtime(TaskMethods, Asynchronous):
    """Runs a bundle. Any number of threads may share one.

    Args:
        bundle: The bundle's folder.
        engine: `onnxruntime` or `openvino`; None uses the first one that is installed.
        threads: See `edge_prompt_runtime.engines.options.EngineOptions`, as for all options without a description.
        precision: Prompts are always folded in f32, whatever the precision of the network.
        compiled_budget_bytes: Memory budget for the keys and values of compiled soft prompts, for causal language
            models. When the budget is exceeded, the least recently used ones are evicted; they are compiled again when
            a request needs them.
        cache_precision: See `EngineOptions`; for causal language models.
        model_cache: See `EngineOptions`. It is trusted like the program itself: use a folder that only you can write
            to. Ignored for language models on OpenVINO, which cannot read its own form of them back.
        prompts: One or several folders of prompts. Every prompt in them is served, and read when a request first asks
            for it.
        prompts_budget_bytes: Memory budget for the prompts and heads of these folders. When the budget is exceeded, the
            least recently used ones are evicted, except those that are pinned; they are read again when needed.
        trust: Who must have signed the bundle and every prompt; None accepts unsigned files, but never altered ones.
        cores: See `EngineOptions`; Linux only.
        spinning: See `EngineOptions`; ONNX Runtime only.
        memory_arena: See `EngineOptions`; ONNX Runtime only.

    Attributes:
        bundle: The bundle.
        engine: Name of the engine.
        network: The network on the engine; its parts can be measured separately.
        store: TaskMethods of the prompt folders.
        recorder: Counts requests, and loads and evictions of prompts; see `stats`.

    Raises:
        MissingFileError: The bundle or a folder of prompts does not exist.
        ManifestError: The bundle is malformed, altered, or in a newer format.
        TrustError: The bundle lacks a signature that `trust` accepts, or differs from what was signed.
        UnknownEngineError: The engine does not exist, or the bundle has no graph for it.
        MissingExtraError: The engine is not installed, or `trust` is given and the extra `sign` is not installed.
        InputError: A setting is out of range, or the engine does not support it here.
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
        # imported here, so that importing this class does not load what only an open bundle needs
        from edge_prompt_runtime.engines.cores import cores_of  # noqa: PLC0415
        from edge_prompt_runtime.engines.options import EngineOptions  # noqa: PLC0415
        from edge_prompt_runtime.factory import open_bundle  # noqa: PLC0415

        cache = None if model_cache is None else Path(model_cache)
        opened = open_bundle(
            Path(bundle),
            engine,
            EngineOptions(threads, precision, cache_precision, cache, cores_of(cores), spinning, memory_arena),
            trust,
            compiled_budget_bytes,
            [Path(folder) for folder in ([prompts] if isinstance(prompts, str | Path) else prompts)],
            prompts_budget_bytes,
        )
        self.bundle, self.engine, self.network, self.recorder = (
            opened.bundle,
            opened.engine,
            opened.network,
            opened.recorder,
        )
        self._requests, self._answers = opened.requests, opened.answers
        self._fold, self._loaded = opened.fold, opened.loaded
        self.store = self._loaded.store

    def stats(self) -> Stats:
        """Return current counts of requests, latencies, loaded, evicted and refused prompts, and memory in use."""
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
    def classify(
        self, inputs: Any, task: TaskName | Sequence[TaskName] = None, labels: Sequence[str] | None = None
    ) -> Classification | list[Classification]:
        """Classify texts or images with the head of their task, or with the network's own head.

        A causal language model scores each label by the probability that its text follows the request and then ends.

        Args:
            inputs: A text or an image (a path, bytes, a Pillow image, or an array `[height, width, 3]`), several of
                them, or the graph's arrays by name.
            task: One task for all rows, or one task per row; None is the base model.
            labels: The labels to choose from, for a causal language model; None uses the labels of the task.

        Returns:
            One answer for one text or image, otherwise a list.

        Raises:
            UnknownTaskError: A task is not loaded.
            InputError: A row cannot be read, the numbers of rows and tasks differ, or a task has no head or labels.
        """
        with Call("classify", self.recorder) as call:
            call.tasks = tasks = self._loaded.find_all(task)
            request = self._requests.read(inputs, tasks)
            call.rows = len(request.tasks)
            answers = self._answers.classify(request, labels)
            return answers[0] if request.single else answers

    aclassify = asynchronous(classify)
    """Call `classify` without blocking the event loop."""

    @overload
    def label_tokens(self, inputs: str, task: TaskName = None) -> list[TokenLabel]: ...  # type: ignore[overload-overlap]
    @overload
    def label_tokens(
        self, inputs: Sequence[str], task: TaskName | Sequence[TaskName] = None
    ) -> list[list[TokenLabel]]: ...
    def label_tokens(
        self, inputs: str | Sequence[str], task: TaskName | Sequence[TaskName] = None
    ) -> list[TokenLabel] | list[list[TokenLabel]]:
        """Classify every token of one or several texts with the network's own head (`token-classification`).

        Args:
            inputs: A text, or several.
            task: One task for all rows, or one task per row; None is the base model.

        Returns:
            The tokens of one text, otherwise one list per text.

        Raises:
            UnknownTaskError: A task is not loaded.
            InputError: The backbone does not classify tokens, a text is empty, or the numbers of rows and tasks
                differ.
        """
        with Call("label_tokens", self.recorder) as call:
            self._answers.require_task("token-classification")
            _require_items(inputs)
            call.tasks = tasks = self._loaded.find_all(task)
            request = self._requests.read(inputs, tasks)
            call.rows = len(request.tasks)
            answers = self._answers.label_tokens(request)
            return answers[0] if request.single else answers

    alabel_tokens = asynchronous(label_tokens)
    """Call `label_tokens` without blocking the event loop."""

    @overload
    def detect(self, inputs: Single, task: TaskName = None, threshold: float = 0.5) -> list[Detection]: ...
    @overload
    def detect(
        self, inputs: Sequence[Any], task: TaskName | Sequence[TaskName] = None, threshold: float = 0.5
    ) -> list[list[Detection]]: ...
    def detect(
        self, inputs: Any, task: TaskName | Sequence[TaskName] = None, threshold: float = 0.5
    ) -> list[Detection] | list[list[Detection]]:
        """Find objects in images with the network's own head (`object-detection`).

        Args:
            inputs: An image, or several.
            task: One task for all rows, or one task per row; None is the base model.
            threshold: Minimum score of an object, from 0 to 1.

        Returns:
            The objects of one image by descending score, otherwise one such list per image.

        Raises:
            UnknownTaskError: A task is not loaded.
            InputError: The backbone does not detect objects, an image cannot be read, or the numbers of rows and tasks
                differ.
        """
        with Call("detect", self.recorder) as call:
            self._answers.require_task("object-detection")
            _require_items(inputs)
            call.tasks = tasks = self._loaded.find_all(task)
            request = self._requests.read(inputs, tasks)
            call.rows = len(request.tasks)
            answers = self._answers.detect(request, threshold)
            return answers[0] if request.single else answers

    adetect = asynchronous(detect)
    """Call `detect` without blocking the event loop."""

    @overload
    def segment(self, inputs: Single, task: TaskName = None) -> Segmentation: ...
    @overload
    def segment(self, inputs: Sequence[Any], task: TaskName | Sequence[TaskName] = None) -> list[Segmentation]: ...
    def segment(self, inputs: Any, task: TaskName | Sequence[TaskName] = None) -> Segmentation | list[Segmentation]:
        """Classify every pixel of images with the network's own head (`semantic-segmentation`).

        Args:
            inputs: An image, or several.
            task: One task for all rows, or one task per row; None is the base model.

        Returns:
            The label map of one image at the size of that image, otherwise a list of label maps.

        Raises:
            UnknownTaskError: A task is not loaded.
            InputError: The backbone does not segment images, an image cannot be read, or the numbers of rows and tasks
                differ.
        """
        with Call("segment", self.recorder) as call:
            self._answers.require_task("semantic-segmentation")
            _require_items(inputs)
            call.tasks = tasks = self._loaded.find_all(task)
            request = self._requests.read(inputs, tasks)
            call.rows = len(request.tasks)
            answers = self._answers.segment(request)
            return answers[0] if request.single else answers

    asegment = asynchronous(segment)
    """Call `segment` without blocking the event loop."""

    def embed(self, inputs: Any, task: TaskName | Sequence[TaskName] = None) -> Float32:
        """Return the feature vector of each text or image, L2-normalised if the backbone's configuration says so.

        Args:
            inputs: A text or an image, several of them, or the graph's arrays by name.
            task: One task for all rows, or one task per row; None is the base model.

        Returns:
            `[feature_size]` for one text or image, otherwise `[batch, feature_size]`; float32.

        Raises:
            UnknownTaskError: A task is not loaded.
            InputError: A row cannot be read, the numbers of rows and tasks differ, or the backbone has no features.
        """
        with Call("embed", self.recorder) as call:
            self._answers.require_features()
            call.tasks = tasks = self._loaded.find_all(task)
            request = self._requests.read(inputs, tasks)
            call.rows = len(request.tasks)
            features = self._answers.embed(request)
            return features[0] if request.single else features

    aembed = asynchronous(embed)
    """Call `embed` without blocking the event loop."""

    def infer(self, feeds: Mapping[str, NDArray[Any]], task: TaskName | Sequence[TaskName] = None) -> Outputs:
        """Run the graph on arrays: the prompt is added, and no other pre- or postprocessing is done.

        Args:
            feeds: The graph's inputs by name, without the prompt inputs. Texts: `input_ids [batch, sequence]` and,
                optionally, `attention_mask` and `token_type_ids` of that shape. Images: `pixel_values [batch, channels,
                height, width]`. A custom backbone: the arrays that it was exported with.
            task: One task for all rows, or one task per row; None is the base model.

        Returns:
            Every output of the graph by name.

        Raises:
            UnknownTaskError: A task is not loaded.
            InputError: An array is unknown, has the wrong shape or is too long, or the numbers of rows and tasks
                differ.
        """
        with Call("infer", self.recorder) as call:
            call.tasks = tasks = self._loaded.find_all(task)
            request = self._requests.read(feeds, tasks)
            call.rows = len(request.tasks)
            return self._answers.infer(request)

    ainfer = asynchronous(infer)
    """Call `infer` without blocking the event loop."""

    @overload
    def generate(
        self,
        inputs: str | list[dict[str, str]],
        task: TaskName = None,
        *,
        stream: Literal[False] = False,
        cancel: Cancellation | None = None,
        **settings: Any,
    ) -> Generation: ...
    @overload
    def generate(
        self,
        inputs: list[str],
        task: TaskName | Sequence[TaskName] = None,
        *,
        stream: Literal[False] = False,
        cancel: Cancellation | None = None,
        **settings: Any,
    ) -> list[Generation]: ...
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
    def generate(
        self,
        inputs: Any,
        task: TaskName | Sequence[TaskName] = None,
        *,
        stream: bool = False,
        cancel: Cancellation | None = None,
        **settings: Any,
    ) -> Generation | list[Generation] | Generator[Piece]:
        """Generate text with a causal language model (`text-generation`).

        Args:
            inputs: A text, token ids, the messages of a chat (`{"role": …, "content": …}` each), several of these, or
                `input_ids` and `attention_mask` by name. A text is inserted into the template of its task.
            task: One task for all rows, or one task per row; None is the base model.
            stream: Whether to yield pieces of text as they are generated; each piece names its row. Close the iterator
                to stop early.
            cancel: A `threading.Event`. Once any thread sets it, every row ends with `cancelled`.
            **settings: Fields of `edge_prompt_runtime.generation.settings.GenerationSettings`: `max_new_tokens`,
                `temperature` (0 is greedy), `top_k`, `top_p`, `min_p`, `repetition_penalty`, `seed`, `stop`,
                `stop_token_ids`, `ignore_eos`, `top_logprobs`. They override the model's own `generation_config.json`.

        Returns:
            The generation of one request, otherwise a list; with `stream`, an iterator of pieces.

        Raises:
            UnknownTaskError: A task is not loaded.
            InputError: The backbone does not generate text, a setting is unknown or out of range, or a row and its new
                tokens exceed the available positions.
            ChatTemplateError: The model's chat template rejects these messages.
            LogitsError: The network returned logits that no token can be chosen from.
        """
        with Call("generate", self.recorder) as call:
            self._answers.require_task("text-generation")
            call.tasks = tasks = self._loaded.find_all(task)
            request = self._requests.read(inputs, tasks)
            call.rows = len(request.tasks)
            pieces, requests = self._answers.generate(request, settings, cancel)
            pieces = call.watch(pieces)
            if stream:
                return pieces
            from edge_prompt_runtime.generation.loop import collect  # noqa: PLC0415 - only generation needs it

            answers = collect(pieces, requests)
            return answers[0] if request.single else answers

    def switcher(self, inputs: Any) -> Callable[[TaskName], object]:
        """Return a function that switches a request to a task without running the network, for benchmarks.

        It does only what a request does on its way from the name of a task to the run: for an encoder, it combines
        the request and the prompt into the inputs of the graph; for a language model, it writes the prompt to the
        buffers of the engine.

        Args:
            inputs: A request with one row, as in the other methods; it is read now.
        """
        from edge_prompt_runtime.execution.network import arrays_of  # noqa: PLC0415 - see above

        arrays = arrays_of(self._requests.read(inputs, self.task(None)), [0])
        return lambda task: self.network.switch(arrays, [self._loaded.find(task)])


def _require_items(inputs: Any) -> None:
    """Accept only texts or images, because an answer refers to places in the original input."""
    if isinstance(inputs, Mapping):
        raise InputError(
            found="this method was called with arrays by name",
            wanted="texts or images",
            remedy="pass texts or images, or call infer",
        )
