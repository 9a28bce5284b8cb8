"""Opens a causal language model. Imported only for bundles that contain one, so that others start faster."""

from __future__ import annotations

from edge_prompt.formats.bundle import Bundle
from edge_prompt.formats.manifest import LanguageManifest
from edge_prompt_runtime.engines.base import Engine
from edge_prompt_runtime.inputs.chat.requests import LanguageRequests
from edge_prompt_runtime.language.answers import LanguageAnswers
from edge_prompt_runtime.language.model import LanguageModel


def open_language(
    bundle: Bundle, manifest: LanguageManifest, name: str, engine: Engine, budget_bytes: int
) -> tuple[LanguageRequests, LanguageModel, LanguageAnswers]:
    """Return what reads, runs and answers requests to the language model in `bundle`.

    Args:
        bundle: The bundle.
        manifest: Its manifest.
        name: Name of the engine.
        engine: The open graph.
        budget_bytes: Memory budget for the keys and values of compiled soft prompts.
    """
    requests = LanguageRequests(bundle, manifest.preprocessing)
    model = LanguageModel(bundle, manifest, name, engine, budget_bytes)
    return requests, model, LanguageAnswers(bundle, bundle.graph(name), model, requests.tokenizer)
