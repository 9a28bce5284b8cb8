"""Options that the workstation's commands share: how a backbone is loaded, spelled as the ecosystem spells it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

from edge_prompt_export.backbone.backbone import LoadOptions
from edge_prompt_export.modalities.image import checkpoint as loading_image
from edge_prompt_export.modalities.image.pooling import IMAGE_POOLINGS
from edge_prompt_export.modalities.language import checkpoint as loading_language
from edge_prompt_export.modalities.text import checkpoint as loading_text
from edge_prompt_export.modalities.text.pooling import POOLINGS

F = TypeVar("F", bound=Callable[..., Any])


def loading_options(function: F) -> F:
    """Add `--task`, `--pooling` and the hub's options; the last arrive as one `options: LoadOptions`."""

    @click.option(
        "--task",
        type=click.Choice([*loading_text.AUTO_CLASSES, *loading_image.AUTO_CLASSES, *loading_language.AUTO_CLASSES]),
        help="What the network does.  [default: its own head's, or features]",
    )
    @click.option(
        "--pooling",
        type=click.Choice(list(dict.fromkeys([*POOLINGS, *IMAGE_POOLINGS]))),
        help="From token vectors to a feature.  [default: the checkpoint's, or what suits the network]",
    )
    @click.option("--revision", help="Branch, tag or commit on the hub.")
    @click.option("--trust-remote-code", is_flag=True, help="Run code that comes with the checkpoint.")
    @click.option("--cache-dir", type=click.Path(file_okay=False), help="Where downloads are kept.")
    @functools.wraps(function)
    def wrapper(revision: str | None, trust_remote_code: bool, cache_dir: str | None, **rest: Any) -> Any:  # noqa: FBT001
        return function(options=LoadOptions(revision, trust_remote_code, cache_dir), **rest)

    return wrapper  # type: ignore[return-value]
