"""Builds the parts of a runtime. Imported when the first bundle is opened, not with the package."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from edge_prompt.formats.bundle import Bundle
from edge_prompt.formats.manifest import LanguageManifest
from edge_prompt.formats.preprocessing import TextPreprocessing
from edge_prompt_runtime.answers.encoder import Answers
from edge_prompt_runtime.engines.base import Engine, open_engine
from edge_prompt_runtime.engines.options import EngineOptions
from edge_prompt_runtime.execution.network import GraphNetwork, Network
from edge_prompt_runtime.inputs.requests import Requests, open_requests
from edge_prompt_runtime.metrics.recorder import Recorder
from edge_prompt_runtime.signing.trust import Trust, read_trusted_bundle
from edge_prompt_runtime.tasks.deep_prompts import DeepPromptFolder
from edge_prompt_runtime.tasks.registry import TaskRegistry


class RuntimeParts(NamedTuple):
    """The parts of an open bundle.

    Attributes:
        bundle: The bundle.
        engine: Name of the engine.
        requests: Reads requests.
        network: The network on that engine.
        answers: Answers requests.
        fold: Folds deep prompts.
        loaded: The tasks.
        recorder: Counts requests, and loads and evictions of prompts.
    """

    bundle: Bundle
    engine: str
    requests: Requests
    network: Network
    answers: Answers
    fold: DeepPromptFolder
    loaded: TaskRegistry
    recorder: Recorder


def open_bundle(
    folder: Path,
    engine: str | None,
    options: EngineOptions,
    trust: Trust | None,
    compiled_budget_bytes: int,
    prompts: Sequence[Path],
    prompts_budget_bytes: int,
) -> RuntimeParts:
    """Open the bundle in `folder`; for arguments and errors see `edge_prompt_runtime.runtime.Runtime`."""
    bundle = read_trusted_bundle(folder, trust)
    name, graph = open_engine(bundle, engine, options)
    requests, network, answers = open_network(bundle, name, graph, compiled_budget_bytes)
    fold = DeepPromptFolder(bundle, name, options)
    recorder = Recorder()
    loaded = TaskRegistry(bundle, fold, network.prepare, network.forget, prompts, prompts_budget_bytes, recorder)
    for what, size_bytes in {**_bytes_of_tasks(loaded), **network.bytes_held}.items():
        recorder.register_memory(what, size_bytes)
    return RuntimeParts(bundle, name, requests, network, answers, fold, loaded, recorder)


def open_network(
    bundle: Bundle, name: str, graph: Engine, compiled_budget_bytes: int
) -> tuple[Requests, Network, Answers]:
    """Return what reads, runs and answers requests to `bundle` on its open graph for the engine `name`."""
    if isinstance(bundle.manifest, LanguageManifest):
        from edge_prompt_runtime.language.factory import open_language  # noqa: PLC0415 - only language models need it

        return open_language(bundle, bundle.manifest, name, graph, compiled_budget_bytes)
    masked = isinstance(bundle.manifest.preprocessing, TextPreprocessing)
    network = GraphNetwork(graph, bundle.graph(name).inputs, masked=masked)
    return open_requests(bundle), network, Answers(bundle, bundle.graph(name), network)


def _bytes_of_tasks(loaded: TaskRegistry) -> dict[str, Callable[[], int]]:
    def heads() -> int:
        return sum(task.head.size_bytes for task in loaded.in_memory if task.head is not None)

    return {"prompts": lambda: sum(task.size_bytes for task in loaded.in_memory) - heads(), "heads": heads}
