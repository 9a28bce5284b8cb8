"""Opens a causal language model. Imported only for bundles that contain one, so that others start faster."""

from __future__ import annotations

from edge_prompt.formats.bundle import Bundle
from edge_prompt.formats.manifest import LanguageManifest
from edge_prompt_runtime.engines.base import Engine
from edge_prompt_runtime.inputs.chat.requests import Reader
from edge_prompt_runtime.inputs.requests import Requests
from edge_prompt_runtime.language.answers import LanguageAnswers
from edge_prompt_runtime.language.model import LanguageModel


def open_language(
    bundle: Bundle, name: str, engine: Engine, requests: Requests, compiled_budget_bytes: int
) -> LanguageAnswers:
    """Return the object that answers requests to the language model in `bundle`.

    Args:
        bundle: The bundle.
        name: Name of the engine.
        engine: The open graph.
        requests: The reader of its requests.
        compiled_budget_bytes: Memory budget for the keys and values of compiled soft prompts.
    """
    assert isinstance(bundle.manifest, LanguageManifest)  # noqa: S101 - opened only for one
    assert isinstance(requests, Reader)  # noqa: S101 - the reader of every bundle with a KV cache
    return LanguageAnswers(bundle, name, LanguageModel(bundle.manifest, engine, compiled_budget_bytes), requests)
