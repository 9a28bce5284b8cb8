"""Requests with arrays, for custom backbones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from edge_prompt.base.errors import InputError
from edge_prompt.formats.preprocessing import ArrayInput, ArrayPreprocessing
from edge_prompt_runtime.inputs.requests import Request, Tasks, one_per_row


class ArrayRequests:
    """Reads arrays for a custom backbone; see `Requests`.

    Args:
        preprocessing: The arrays that the backbone takes.
    """

    def __init__(self, preprocessing: ArrayPreprocessing) -> None:
        self._inputs = preprocessing.inputs

    def read(self, inputs: Any, tasks: Tasks) -> Request:
        """Check arrays by name against the dtypes and shapes in the manifest; any prompt fits next to any arrays."""
        if not isinstance(inputs, Mapping):
            self._refuse(f"the request is of type {type(inputs).__name__}")
        if inputs.keys() != self._inputs.keys():
            self._refuse(f"the arrays are named {sorted(inputs)}")
        taken = {name: self._taken(name, np.asarray(inputs[name]), wanted) for name, wanted in self._inputs.items()}
        rows = {len(array) for array in taken.values()}
        if len(rows) > 1:
            raise InputError(
                found=f"the arrays have {sorted(rows)} rows",
                wanted="the same number of rows in each array",
                remedy="take all arrays from one batch",
            )
        return Request(taken, one_per_row(tasks, rows.pop()))

    def _taken(self, name: str, array: NDArray[Any], wanted: ArrayInput) -> NDArray[Any]:
        fits = array.ndim == len(wanted.shape) and all(
            length in (None, found) for length, found in zip(wanted.shape, array.shape, strict=False)
        )
        if not fits or 0 in array.shape or not np.can_cast(array.dtype, wanted.dtype, "same_kind"):
            self._refuse(f"{name} has shape {list(array.shape)} and dtype {array.dtype}")
        return array.astype(wanted.dtype, copy=False)

    def _refuse(self, found: str) -> NoReturn:
        wanted = ", ".join(f"{name} {_described(array)}" for name, array in self._inputs.items())
        raise InputError(found=found, wanted=f"arrays by name: {wanted}", remedy="pass a mapping of such arrays")


def _described(wanted: ArrayInput) -> str:
    lengths = ("batch", *("free" if length is None else str(length) for length in wanted.shape[1:]))
    return f"{wanted.dtype} [{', '.join(lengths)}]"
