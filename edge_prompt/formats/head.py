"""A task's own head: a linear layer over the backbone's feature, with a dense layer before it if the task needs one."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from edge_prompt.base.errors import HeadError
from edge_prompt.storage.files import written_atomically
from edge_prompt.untrusted.npy import read_hashed_npz, write_npz_to

Float32 = NDArray[np.float32]

_LINEAR_ARRAYS = frozenset({"weight", "bias"})
_DENSE_ARRAYS = frozenset({"dense_weight", "dense_bias"})

_erf = np.frompyfunc(math.erf, 1, 1)


def _gelu(values: Float32) -> Float32:
    """`x * Phi(x)`, exact (Hendrycks & Gimpel 2016)."""
    share: Float32 = (1.0 + _erf(values * math.sqrt(0.5)).astype(np.float32)) / 2
    return values * share


def _relu(values: Float32) -> Float32:
    return np.maximum(values, np.float32(0))


ACTIVATIONS: Mapping[str, Callable[[Float32], Float32]] = {"gelu": _gelu, "relu": _relu, "tanh": np.tanh}
"""What may stand between a head's dense layer and its linear one, by the name a card gives it."""


@dataclass(frozen=True)
class Dense:
    """The layer before a head's linear one: `activation(features @ weight.T + bias)`.

    Attributes:
        weight: `[width, feature_size]` float32.
        bias: `[width]` float32.
        activation: A key of `ACTIVATIONS`.
    """

    weight: Float32
    bias: Float32
    activation: str


@dataclass(frozen=True)
class Head:
    """A task's own head: `logits = features @ weight.T + bias`, of what the dense layer makes of them if it has one.

    Attributes:
        weight: `[num_labels, feature_size]` float32; `[num_labels, width]` after a dense layer.
        bias: `[num_labels]` float32.
        dense: The layer before, or None.
    """

    weight: Float32
    bias: Float32
    dense: Dense | None = None

    @property
    def feature_size(self) -> int:
        """Width of the feature that it reads."""
        return int((self.weight if self.dense is None else self.dense.weight).shape[1])

    @property
    def size_bytes(self) -> int:
        """Bytes of all its numbers."""
        dense = () if self.dense is None else (self.dense.weight, self.dense.bias)
        return sum(array.nbytes for array in (self.weight, self.bias, *dense))

    def logits(self, features: Float32) -> Float32:
        """`[batch, num_labels]` for `features [batch, feature_size]`, or `[num_labels]` for `[feature_size]`."""
        if self.dense is not None:
            features = ACTIVATIONS[self.dense.activation](features @ self.dense.weight.T + self.dense.bias)
        return features @ self.weight.T + self.bias


def read_head(path: Path, activation: str | None) -> Head:
    """Read a head file.

    Args:
        path: The file.
        activation: What its card says: a key of `ACTIVATIONS` if it has a dense layer, otherwise None.

    Raises:
        MissingFileError: There is no such file.
        ArrayFileError: It is malformed, or does not hold exactly the arrays that it should.
    """
    return read_hashed_head(path, activation)[0]


def read_hashed_head(path: Path, activation: str | None) -> tuple[Head, str]:
    """As `read_head`, with the SHA-256 of the very file that was read."""
    names = _LINEAR_ARRAYS if activation is None else _LINEAR_ARRAYS | _DENSE_ARRAYS
    found, sha256 = read_hashed_npz(path, names)
    arrays = {name: array.astype(np.float32, copy=False) for name, array in found.items()}
    dense = None if activation is None else Dense(arrays["dense_weight"], arrays["dense_bias"], activation)
    return Head(arrays["weight"], arrays["bias"], dense), sha256


def write_head(path: Path, head: Head) -> None:
    """Write a head file atomically.

    Raises:
        WriteError: It cannot be written.
    """
    with written_atomically(path) as stream:
        write_head_to(stream, head)


def write_head_to(stream: BinaryIO, head: Head) -> None:
    """Write a head file into a stream."""
    dense = {} if head.dense is None else {"dense_weight": head.dense.weight, "dense_bias": head.dense.bias}
    write_npz_to(stream, {"weight": head.weight, "bias": head.bias, **dense})


def require_head(head: Head, labels: tuple[str, ...], path: Path) -> None:
    """Refuse a head whose arrays do not fit each other or the labels.

    Raises:
        HeadError: They do not.
    """
    arrays = {"weight": head.weight, "bias": head.bias}
    fits = head.weight.ndim == 2 and head.bias.shape == head.weight.shape[:1]
    fits = fits and len(head.weight) == (len(labels) or len(head.weight)) and len(set(labels)) == len(labels)
    wanted = "weight [num_labels, feature_size] and bias [num_labels], a label a class"
    if head.dense is not None:
        arrays |= {"dense_weight": head.dense.weight, "dense_bias": head.dense.bias}
        fits = fits and head.dense.weight.ndim == 2 and head.dense.activation in ACTIVATIONS
        fits = fits and head.dense.bias.shape == head.dense.weight.shape[:1] == head.weight.shape[1:]
        wanted = (
            "weight [num_labels, width] and bias [num_labels], a label a class, "
            f"dense_weight [width, feature_size] and dense_bias [width], and one of {', '.join(ACTIVATIONS)}"
        )
    if not fits:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
        raise HeadError(
            found=f"{path}: {shapes}, {len(set(labels))} different labels",
            wanted=wanted,
            remedy="use the head and labels that belong to this prompt",
        )
