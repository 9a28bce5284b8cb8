"""Memory that a runtime uses in addition to the network."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from edge_prompt_runtime.tasks.registry import LoadedTasks

if TYPE_CHECKING:
    from edge_prompt_runtime.language.answers import LanguageAnswers


def holdings(loaded: LoadedTasks, language: LanguageAnswers | None) -> dict[str, Callable[[], int]]:
    """Return a function for each use of memory (prompts, heads, compiled prompts) that gives its size in bytes."""

    def heads() -> int:
        return sum(task.head.size_bytes for task in loaded.kept if task.head is not None)

    found: dict[str, Callable[[], int]] = {
        "prompts": lambda: sum(task.size_bytes for task in loaded.kept) - heads(),
        "heads": heads,
    }
    if language is not None:
        compiled = language.model.compiled
        found["compiled"] = lambda: compiled.kept_bytes
    return found
