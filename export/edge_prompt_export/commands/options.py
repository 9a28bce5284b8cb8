"""Options for loading a backbone, which several commands share; the names follow transformers."""

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
    """Add `--task`, `--pooling` and the hub options; the hub options arrive as one `options: LoadOptions`."""

    @click.option(
        "--task",
        type=click.Choice([*loading_text.AUTO_CLASSES, *loading_image.AUTO_CLASSES, *loading_language.AUTO_CLASSES]),
        help="Task that the network is loaded for.  [default: that of the checkpoint's head, or feature extraction]",
    )
    @click.option(
        "--pooling",
        type=click.Choice(list(dict.fromkeys([*POOLINGS, *IMAGE_POOLINGS]))),
        help="How token vectors are pooled into one feature vector.  [default: the checkpoint's setting, or one that "
        "suits the architecture]",
    )
    @click.option("--revision", help="Branch, tag or commit of the model on the hub.")
    @click.option("--trust-remote-code", is_flag=True, help="Allow code from the checkpoint to run.")
    @click.option("--cache-dir", type=click.Path(file_okay=False), help="Folder for downloads.")
    @functools.wraps(function)
    def wrapper(revision: str | None, trust_remote_code: bool, cache_dir: str | None, **rest: Any) -> Any:  # noqa: FBT001
        return function(options=LoadOptions(revision, trust_remote_code, cache_dir), **rest)

    return wrapper  # type: ignore[return-value]
