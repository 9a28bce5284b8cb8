"""The contract of edge-prompt: what a prompt is, what a bundle is, and what can go wrong."""

import logging
from typing import TYPE_CHECKING

from edge_prompt.lazily import lazily
from edge_prompt.version import __version__

if TYPE_CHECKING:
    from edge_prompt.bundle import Bundle, read_bundle
    from edge_prompt.card import Card
    from edge_prompt.errors import EdgePromptError
    from edge_prompt.manifest import Manifest
    from edge_prompt.prompt import Dense, Head, Prompt, read_prompt, write_prompt
else:
    __getattr__, __dir__ = lazily(
        __name__,
        {
            **dict.fromkeys(("Bundle", "read_bundle"), "edge_prompt.bundle"),
            "Card": "edge_prompt.card",
            "EdgePromptError": "edge_prompt.errors",
            "Manifest": "edge_prompt.manifest",
            **dict.fromkeys(("Dense", "Head", "Prompt", "read_prompt", "write_prompt"), "edge_prompt.prompt"),
        },
    )

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
