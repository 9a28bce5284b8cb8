"""Joins the outputs of a batch that ran in several groups."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_prompt.base.errors import InputError
from edge_prompt_runtime.execution.network import Network, Outputs
from edge_prompt_runtime.inputs.requests import Request


def batch_outputs(network: Network, request: Request, outputs: Sequence[str]) -> Outputs:
    """Return the outputs of all rows, one array `[batch, …]` per output.

    Raises:
        InputError: The shape of an output differs between rows.
    """
    first, *others = network.groups(request, outputs)
    if not others:
        return first[1]
    rows = len(request.tasks)
    joined = {name: np.empty((rows, *array.shape[1:]), array.dtype) for name, array in first[1].items()}
    for numbers, found in (first, *others):
        for name, array in found.items():
            shapes = [list(one.shape[1:]) for one in (joined[name], array)]
            if shapes[0] != shapes[1]:
                raise InputError(
                    found=f"the output {name} has the shapes {shapes[0]} and {shapes[1]} in different rows",
                    wanted="rows whose outputs have the same shape",
                    remedy="pass only rows with prompts of the same length in one call",
                )
            joined[name][numbers] = array
    return joined
