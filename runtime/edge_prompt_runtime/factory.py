"""Opening a bundle: builds the parts of a runtime. Imported when the first bundle is opened, not with the package."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edge_prompt.formats.bundle import Bundle
from edge_prompt.formats.manifest import LanguageManifest
from edge_prompt_runtime.answers.encoder import Answers
from edge_prompt_runtime.engines.base import Engine, open_engine
from edge_prompt_runtime.engines.settings import EngineSettings
from edge_prompt_runtime.execution.network import GraphNetwork, Network
from edge_prompt_runtime.inputs.requests import Requests, open_requests
from edge_prompt_runtime.memory import holdings
from edge_prompt_runtime.metrics.recorder import Recorder
from edge_prompt_runtime.signing.trust import Trust, read_trusted_bundle
from edge_prompt_runtime.tasks.deep_prompts import Folder
from edge_prompt_runtime.tasks.registry import LoadedTasks

if TYPE_CHECKING:
    from edge_prompt_runtime.language.answers import LanguageAnswers


class Opened(NamedTuple):
    """The parts of an open bundle.

    Attributes:
        bundle: The bundle.
        engine: Name of the engine.
        graph: The graph on that engine.
        requests: Reads requests.
        answers: Answers requests.
        language: Answers requests to a causal language model; None for other networks.
        fold: Folds deep prompts.
        loaded: The tasks.
        recorder: Counts requests, and loads and evictions of prompts.
    """

    bundle: Bundle
    engine: str
    graph: Engine
    requests: Requests
    answers: Answers
    language: LanguageAnswers | None
    fold: Folder
    loaded: LoadedTasks
    recorder: Recorder


def open_bundle(
    folder: Path,
    engine: str | None,
    settings: EngineSettings,
    trust: Trust | None,
    compiled_budget_bytes: int,
    prompts: Sequence[Path],
    prompts_budget_bytes: int,
) -> Opened:
    """Open the bundle in `folder`; for arguments and errors see `edge_prompt_runtime.runtime.Runtime`."""
    bundle = read_trusted_bundle(folder, trust)
    name, graph = open_engine(bundle, engine, settings)
    requests = open_requests(bundle)
    language = None
    network: Network
    if isinstance(bundle.manifest, LanguageManifest):
        from edge_prompt_runtime.language.factory import open_language  # noqa: PLC0415 - only language models need it

        language = open_language(bundle, name, graph, requests, compiled_budget_bytes)
        network = language.model
    else:
        network = GraphNetwork(graph, bundle.graph(name).inputs, masked=requests.masked)
    fold = Folder(bundle, name, settings)
    recorder = Recorder()
    loaded = LoadedTasks(
        bundle,
        fold,
        _nothing if language is None else language.prepare,
        _nothing if language is None else language.model.compiled.forget,
        prompts,
        prompts_budget_bytes,
        recorder,
    )
    for what, size_bytes in holdings(loaded, language).items():
        recorder.holds(what, size_bytes)
    answers = Answers(bundle, bundle.graph(name), network)
    return Opened(bundle, name, graph, requests, answers, language, fold, loaded, recorder)


def _nothing(*_: object) -> None:
    """Do nothing before and after a task is served: the hook of networks that keep no state per task."""
