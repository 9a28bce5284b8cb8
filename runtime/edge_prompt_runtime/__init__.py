"""The device side of edge-prompt: numpy and one engine, no torch."""

from edge_prompt_runtime.generation.results import Generation, Piece
from edge_prompt_runtime.generation.warned import GenerationConfigWarning
from edge_prompt_runtime.results import Classification, TokenLabel
from edge_prompt_runtime.runtime import Runtime
from edge_prompt_runtime.tokenizing import TruncationWarning
from edge_prompt_runtime.trust import Trust

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
