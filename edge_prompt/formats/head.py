"""The head of a task: a linear layer over the backbone's features, optionally after a dense layer."""

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
    """Return the exact GELU, `x * Phi(x)` (Hendrycks & Gimpel 2016)."""
    share: Float32 = (1.0 + _erf(values * math.sqrt(0.5)).astype(np.float32)) / 2
    return values * share


def _relu(values: Float32) -> Float32:
    return np.maximum(values, np.float32(0))


ACTIVATIONS: Mapping[str, Callable[[Float32], Float32]] = {"gelu": _gelu, "relu": _relu, "tanh": np.tanh}
"""The activations that may follow a head's dense layer, by their name in a card."""


@dataclass(frozen=True)
class Dense:
    """The dense layer of a head: `activation(features @ weight.T + bias)`.

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
    """The head of a task: `logits = features @ weight.T + bias`, after the dense layer if there is one.

    Attributes:
        weight: `[num_labels, feature_size]` float32, or `[num_labels, width]` after a dense layer.
        bias: `[num_labels]` float32.
        dense: The dense layer before it, or None.
    """

    weight: Float32
    bias: Float32
    dense: Dense | None = None

    @property
    def feature_size(self) -> int:
        """The size of the features that the head reads."""
        return int((self.weight if self.dense is None else self.dense.weight).shape[1])

    @property
    def size_bytes(self) -> int:
        """The total size of the arrays in bytes."""
        dense = () if self.dense is None else (self.dense.weight, self.dense.bias)
        return sum(array.nbytes for array in (self.weight, self.bias, *dense))

    def logits(self, features: Float32) -> Float32:
        """Return `[batch, num_labels]` for `features [batch, feature_size]`, or `[num_labels]` for `[feature_size]`."""
        if self.dense is not None:
            features = ACTIVATIONS[self.dense.activation](features @ self.dense.weight.T + self.dense.bias)
        return features @ self.weight.T + self.bias


def read_head(path: Path, activation: str | None) -> Head:
    """Read a head file.

    Args:
        path: The file.
        activation: The activation that its card names, a key of `ACTIVATIONS`; None if it has no dense layer.

    Raises:
        MissingFileError: There is no such file.
        ArrayFileError: It is malformed, or does not contain exactly the expected arrays.
    """
    return read_hashed_head(path, activation)[0]


def read_hashed_head(path: Path, activation: str | None) -> tuple[Head, str]:
    """Like `read_head`, but also return the SHA-256 of the file that was read."""
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
    """Write a head file to a stream."""
    dense = {} if head.dense is None else {"dense_weight": head.dense.weight, "dense_bias": head.dense.bias}
    write_npz_to(stream, {"weight": head.weight, "bias": head.bias, **dense})


def require_head(head: Head, labels: tuple[str, ...], path: Path) -> None:
    """Check that the arrays of a head fit each other and the labels.

    Raises:
        HeadError: They do not.
    """
    arrays = {"weight": head.weight, "bias": head.bias}
    fits = head.weight.ndim == 2 and head.bias.shape == head.weight.shape[:1]
    fits = fits and len(head.weight) == (len(labels) or len(head.weight)) and len(set(labels)) == len(labels)
    wanted = "weight [num_labels, feature_size] and bias [num_labels], with one label per class"
    if head.dense is not None:
        arrays |= {"dense_weight": head.dense.weight, "dense_bias": head.dense.bias}
        fits = fits and head.dense.weight.ndim == 2 and head.dense.activation in ACTIVATIONS
        fits = fits and head.dense.bias.shape == head.dense.weight.shape[:1] == head.weight.shape[1:]
        wanted = (
            "weight [num_labels, width] and bias [num_labels], with one label per class, "
            "dense_weight [width, feature_size] and dense_bias [width], "
            f"and one of the activations {', '.join(ACTIVATIONS)}"
        )
    if not fits:
        shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())
        raise HeadError(
            found=f"{path}: {shapes}, {len(set(labels))} distinct labels",
            wanted=wanted,
            remedy="use the head and labels that belong to this prompt",
        )
