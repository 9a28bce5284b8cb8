"""The contract of edge-prompt: what a prompt is, what a bundle is, and what can go wrong."""

import logging

from edge_prompt.bundle import Bundle, read_bundle
from edge_prompt.card import Card
from edge_prompt.errors import EdgePromptError
from edge_prompt.manifest import Manifest
from edge_prompt.prompt import Dense, Head, Prompt, read_prompt, write_prompt
from edge_prompt.version import __version__

logging.getLogger("edge_prompt").addHandler(logging.NullHandler())  # silent, unless the program listens

__all__ = [
    "Bundle",
    "Card",
    "Dense",
    "EdgePromptError",
    "Head",
    "Manifest",
    "Prompt",
    "__version__",
    "read_bundle",
    "read_prompt",
    "write_prompt",
]
