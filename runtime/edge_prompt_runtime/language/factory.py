"""A causal language model on an opened engine. Imported only for bundles that hold one: others start without it."""

from __future__ import annotations

from edge_prompt.formats.bundle import Bundle
from edge_prompt_runtime.engines.base import Engine
from edge_prompt_runtime.inputs.chat.requests import Reader
from edge_prompt_runtime.inputs.requests import Requests
from edge_prompt_runtime.language.answers import LanguageAnswers
from edge_prompt_runtime.language.model import LanguageModel


def open_language(
    bundle: Bundle, name: str, engine: Engine, requests: Requests, compiled_budget_bytes: int
) -> LanguageAnswers:
    """What answers requests of the language model in `bundle`.

    Args:
        bundle: The bundle.
        name: Of the engine.
        engine: The opened graph.
        requests: What reads its requests.
        compiled_budget_bytes: How much memory the keys and values of compiled soft prompts may take.
    """
    assert isinstance(requests, Reader)  # noqa: S101 - a bundle with a cache reads texts for a language model
    return LanguageAnswers(bundle, name, LanguageModel(bundle.manifest, engine, compiled_budget_bytes), requests)
