"""Requests with arrays, for custom backbones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from edge_prompt.base.errors import InputError
from edge_prompt.formats.bundle import Bundle
from edge_prompt.formats.preprocessing import ArrayInput, ArrayPreprocessing
from edge_prompt_runtime.inputs.requests import Request
from edge_prompt_runtime.tasks.task import Task


class Reader:
    """Reads arrays for a custom backbone; see `Requests`."""

    masked = False

    def __init__(self, bundle: Bundle) -> None:
        preprocessing = bundle.manifest.preprocessing
        assert isinstance(preprocessing, ArrayPreprocessing)  # noqa: S101 - this reader is chosen by the preprocessing
        self._inputs = preprocessing.inputs

    def items(self, inputs: Any) -> tuple[list[Any], bool]:
        """Refuse the inputs: only arrays by name are accepted."""
        self._refuse(f"the request is of type {type(inputs).__name__}")

    def encode(self, items: Sequence[Any], tasks: Sequence[Task]) -> Request:  # noqa: ARG002 - `items` refuses everything
        """Refuse the items: only arrays by name are accepted."""
        self._refuse(f"there are {len(items)} requests")

    def take(self, arrays: Mapping[str, NDArray[Any]]) -> Request:
        """Check arrays against the dtypes and shapes in the manifest."""
        if arrays.keys() != self._inputs.keys():
            self._refuse(f"the arrays are named {sorted(arrays)}")
        taken = {name: self._taken(name, np.asarray(arrays[name]), wanted) for name, wanted in self._inputs.items()}
        rows = {len(array) for array in taken.values()}
        if len(rows) > 1:
            raise InputError(
                found=f"the arrays have {sorted(rows)} rows",
                wanted="the same number of rows in each array",
                remedy="take all arrays from one batch",
            )
        return Request(taken, rows.pop())

    def require_room(self, request: Request, tasks: Sequence[Task]) -> None:
        """Do nothing: any prompt fits next to any arrays."""

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
