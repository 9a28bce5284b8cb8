"""Combines requests, the caller's settings and the model's own configuration into one generation request per row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge_prompt.base.errors import InputError, ManifestError
from edge_prompt.formats.bundle import Bundle
from edge_prompt.storage.files import read_json
from edge_prompt_runtime.execution.network import arrays_of
from edge_prompt_runtime.generation.model_defaults import GENERATION_CONFIG_NAME, settings_from
from edge_prompt_runtime.generation.row import RowRequest
from edge_prompt_runtime.inputs.requests import Request
from edge_prompt_runtime.tasks.task import Task


def read_generation_config(bundle: Bundle) -> Mapping[str, Any]:
    """Read the model's own generation configuration; empty if it has none.

    Raises:
        ManifestError: The file is altered or malformed.
    """
    path = bundle.file(GENERATION_CONFIG_NAME)
    return {} if path is None else read_json(path, ManifestError)


def row_requests(request: Request, config: Mapping[str, Any], asked: Mapping[str, Any]) -> list[RowRequest]:
    """Return one generation request per row.

    Raises:
        InputError: A setting is unknown or out of range, or a row and its new tokens exceed the available positions.
    """
    settings = settings_from(config, **asked)
    ids, mask = arrays_of(request, range(len(request.tasks))).values()
    rows = [row_ids[row_mask > 0] for row_ids, row_mask in zip(ids, mask, strict=True)]
    for row, (tokens, task) in enumerate(zip(rows, request.tasks, strict=True)):
        _require_room(row, len(tokens), asked.get("max_new_tokens"), task)
    return [
        RowRequest(tokens, settings, task.max_tokens - len(tokens))
        for tokens, task in zip(rows, request.tasks, strict=True)
    ]


def _require_room(row: int, length: int, max_new_tokens: int | None, task: Task) -> None:
    wanted_new = 1 if max_new_tokens is None else max_new_tokens
    if length + wanted_new <= task.max_tokens:
        return
    room = task.max_tokens - length
    fits = f"at most {room} new tokens" if room > 0 else f"a row of at most {task.max_tokens - 1} tokens"
    raise InputError(
        found=f"row {row} has {length} tokens plus {wanted_new} to generate for {task.described}",
        wanted=f"{fits}, because {task.max_tokens} tokens fit in total",
        remedy="shorten the row, generate fewer tokens, or use a shorter prompt",
    )
