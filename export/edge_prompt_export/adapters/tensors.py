"""The tensors of an adapter file of any format; each is read on demand, after its size has been checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from edge_prompt.base.errors import AdapterError
from edge_prompt.untrusted.npy import FloatArray

_BFLOAT16_SHIFT = 16


@dataclass(frozen=True)
class Tensor:
    """A tensor of an adapter file.

    Attributes:
        name: Its name and its file, for messages.
        dtype: Its dtype as named by safetensors, e.g. `F32`.
        shape: Its shape.
        content: Returns its bytes in C order, little-endian.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    content: Callable[[], bytes]

    def array(self) -> FloatArray:
        """The numbers of the tensor: float16 stays as it is, other dtypes become float32.

        Raises:
            AdapterError: The numbers are not floats, or not finite.
        """
        if self.dtype not in _DECODERS:
            refuse(self.name, f"dtype {self.dtype[:20]}", f"one of {', '.join(_DECODERS)}")
        with np.errstate(over="ignore"):
            array = _DECODERS[self.dtype](self.content())
        if not np.isfinite(array).all():
            refuse(
                self.name, "NaN or infinity", "finite numbers in float32", "train it again with a lower learning rate"
            )
        return array.reshape(self.shape)


@dataclass(frozen=True)
class TensorFile:
    """The tensor file of an adapter.

    Attributes:
        path: The file.
        tensors: Its tensors by name.
        metadata: The metadata of a safetensors header.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]


def refuse(
    name: str,
    found: str,
    wanted: str,
    remedy: str = "restore the file, or save the adapter again",
    cause: BaseException | None = None,
) -> NoReturn:
    """Raise an `AdapterError` about `name`, a file or a tensor in it."""
    raise AdapterError(found=f"{name}: {found}", wanted=wanted, remedy=remedy) from cause


def _widened(content: bytes) -> NDArray[np.float32]:
    """Convert bfloat16, which is the upper half of a float32."""
    return (np.frombuffer(content, "<u2").astype(np.uint32) << _BFLOAT16_SHIFT).view(np.float32)


_DECODERS: Mapping[str, Callable[[bytes], FloatArray]] = {
    "F64": lambda content: np.frombuffer(content, "<f8").astype(np.float32),
    "F32": lambda content: np.frombuffer(content, "<f4"),
    "F16": lambda content: np.frombuffer(content, "<f2"),
    "BF16": _widened,
}
"""Conversions from the bytes of a tensor to its numbers, by dtype."""
