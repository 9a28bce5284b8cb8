"""From tokens and tasks to the graph's inputs: the one place where a prompt meets a request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_prompt_runtime.engines import Arrays
from edge_prompt_runtime.tasks import Float32, Task
from edge_prompt_runtime.tokenizing import TokenBatch


def feeds_of(tokens: TokenBatch, tasks: Sequence[Task], input_names: Sequence[str]) -> Arrays:
    """The graph's inputs for a batch whose row `i` is under `tasks[i]`.

    A batch of one task is fed that task's arrays as they are, with a leading 1 that the graph broadcasts: a swap copies
    nothing. In a batch of several tasks, prompts are filled up with zeros to the longest, and masked there.
    """
    one = all(task is tasks[0] for task in tasks)
    soft_prompt, prefix = (tasks[0].soft_prompt, tasks[0].prefix) if one else _stacked(tasks)
    mask = [_prompt_mask([task.soft_length for task in tasks]), tokens.attention_mask]
    if prefix is not None:
        mask.insert(0, _prompt_mask([task.prefix_length for task in tasks]))
    feeds: dict[str, NDArray[Any] | None] = {
        "input_ids": tokens.input_ids,
        "attention_mask": np.concatenate(mask, 1),
        "token_type_ids": tokens.token_type_ids,
        "soft_prompt": soft_prompt,
        "prefix": prefix,
    }
    return {name: array for name in input_names if (array := feeds[name]) is not None}


def _prompt_mask(lengths: Sequence[int]) -> NDArray[np.int64]:
    """`[batch, longest]`: ones for a row's own virtual tokens, which come first."""
    return (np.arange(max(lengths)) < np.asarray(lengths)[:, None]).astype(np.int64)


def _stacked(tasks: Sequence[Task]) -> tuple[Float32, Float32 | None]:
    """The prompts of all rows, `[batch, …]`, each filled up with zeros to the longest."""
    longest = max(task.soft_length for task in tasks)
    soft_prompt = np.zeros((len(tasks), longest, tasks[0].soft_prompt.shape[2]), np.float32)
    for row, task in enumerate(tasks):
        soft_prompt[row, : task.soft_length] = task.soft_prompt[0]
    if tasks[0].prefix is None:
        return soft_prompt, None
    layers, key_value, _, heads, _, head_dim = tasks[0].prefix.shape
    longest = max(task.prefix_length for task in tasks)
    prefix = np.zeros((layers, key_value, len(tasks), heads, longest, head_dim), np.float32)
    for row, task in enumerate(tasks):
        if task.prefix is not None:
            prefix[:, :, row, :, : task.prefix_length] = task.prefix[:, :, 0]
    return soft_prompt, prefix
