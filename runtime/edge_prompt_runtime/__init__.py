"""The device side of edge-prompt: numpy and one engine, no torch."""

from typing import TYPE_CHECKING

from edge_prompt.base.lazy_imports import lazily
from edge_prompt_runtime.runtime import Runtime

if TYPE_CHECKING:
    from edge_prompt_runtime.generation.results import Generation, Piece
    from edge_prompt_runtime.generation.warned import GenerationConfigWarning
    from edge_prompt_runtime.results import Classification, TokenLabel
    from edge_prompt_runtime.tokenizing import TruncationWarning
    from edge_prompt_runtime.trust import Trust
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            **dict.fromkeys(("Generation", "Piece"), "edge_prompt_runtime.generation.results"),
            "GenerationConfigWarning": "edge_prompt_runtime.generation.warned",
            **dict.fromkeys(("Classification", "TokenLabel"), "edge_prompt_runtime.results"),
            "TruncationWarning": "edge_prompt_runtime.tokenizing",
            "Trust": "edge_prompt_runtime.trust",
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
