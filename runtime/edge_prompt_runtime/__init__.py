"""Runs bundles on a device, with NumPy and one engine and without torch."""

from typing import TYPE_CHECKING

from edge_prompt.base.lazy_imports import lazy_attributes
from edge_prompt_runtime.runtime import Runtime

if TYPE_CHECKING:
    from edge_prompt_runtime.answers.results import Classification, TokenLabel
    from edge_prompt_runtime.generation.results import Generation, Piece
    from edge_prompt_runtime.generation.warnings import GenerationConfigWarning
    from edge_prompt_runtime.inputs.text.requests import TruncationWarning
    from edge_prompt_runtime.signing.trust import Trust
else:
    __getattr__, __dir__ = lazy_attributes(
        __name__,
        {
            **dict.fromkeys(("Generation", "Piece"), "edge_prompt_runtime.generation.results"),
            "GenerationConfigWarning": "edge_prompt_runtime.generation.warnings",
            **dict.fromkeys(("Classification", "TokenLabel"), "edge_prompt_runtime.answers.results"),
            "TruncationWarning": "edge_prompt_runtime.inputs.text.requests",
            "Trust": "edge_prompt_runtime.signing.trust",
        },
    )

__all__ = [
    "Classification",
    "Generation",
    "GenerationConfigWarning",
    "Piece",
    "Runtime",
    "TokenLabel",
    "TruncationWarning",
    "Trust",
]
