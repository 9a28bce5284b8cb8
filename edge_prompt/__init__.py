"""The contract of edge-prompt: prompts, bundles, cards, and the errors that all packages raise."""

import logging
from typing import TYPE_CHECKING

from edge_prompt.base.lazy_imports import lazy_attributes
from edge_prompt.base.version import __version__

if TYPE_CHECKING:
    from edge_prompt.base.errors import EdgePromptError
    from edge_prompt.formats.bundle import Bundle, read_bundle
    from edge_prompt.formats.card import Card
    from edge_prompt.formats.manifest import EncoderManifest, LanguageManifest, Manifest
    from edge_prompt.formats.prompt import Dense, Head, Prompt, read_prompt, write_prompt
else:
    __getattr__, __dir__ = lazy_attributes(
        __name__,
        {
            **dict.fromkeys(("Bundle", "read_bundle"), "edge_prompt.formats.bundle"),
            "Card": "edge_prompt.formats.card",
            "EdgePromptError": "edge_prompt.base.errors",
            **dict.fromkeys(("EncoderManifest", "LanguageManifest", "Manifest"), "edge_prompt.formats.manifest"),
            **dict.fromkeys(("Dense", "Head", "Prompt", "read_prompt", "write_prompt"), "edge_prompt.formats.prompt"),
        },
    )

logging.getLogger("edge_prompt").addHandler(logging.NullHandler())  # silent unless the program configures logging

__all__ = [
    "Bundle",
    "Card",
    "Dense",
    "EdgePromptError",
    "EncoderManifest",
    "Head",
    "LanguageManifest",
    "Manifest",
    "Prompt",
    "__version__",
    "read_bundle",
    "read_prompt",
    "write_prompt",
]
