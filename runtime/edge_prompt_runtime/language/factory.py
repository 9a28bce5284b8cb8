"""Opens a causal language model. Imported only for bundles that contain one, so that others start faster."""

from __future__ import annotations

from edge_prompt.formats.bundle import Bundle
from edge_prompt.formats.preprocessing import LanguagePreprocessing
from edge_prompt_runtime.engines.base import Engine
from edge_prompt_runtime.inputs.chat.requests import LanguageRequests
from edge_prompt_runtime.language.answers import LanguageAnswers
from edge_prompt_runtime.language.model import LanguageModel


def open_language(
    bundle: Bundle, preprocessing: LanguagePreprocessing, name: str, engine: Engine, budget_bytes: int
) -> tuple[LanguageRequests, LanguageModel, LanguageAnswers]:
    """Return what reads, runs and answers requests to the language model in `bundle`.

    Args:
        bundle: The bundle.
        preprocessing: How its requests become inputs.
        name: Name of the engine.
        engine: The open graph.
        budget_bytes: Memory budget for the keys and values of compiled soft prompts.
    """
    requests = LanguageRequests(bundle, preprocessing)
    model = LanguageModel(bundle, name, engine, budget_bytes)
    return requests, model, LanguageAnswers(bundle, bundle.graph(name), model, requests.tokenizer)
