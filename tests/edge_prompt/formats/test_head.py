from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edge_prompt.base.errors import ArrayFileError, HeadError, MissingFileError
from edge_prompt.formats.head import ACTIVATIONS, Dense, Head, read_head, require_head, write_head
from edge_prompt.untrusted.npy import write_npz

RANDOM = np.random.default_rng(0)
TORCH = {"gelu": torch.nn.functional.gelu, "relu": torch.relu, "tanh": torch.tanh}


def floats(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return RANDOM.standard_normal(shape, dtype=np.float32)


def with_dense(activation: str = "tanh") -> Head:
    return Head(floats(3, 6), floats(3), Dense(floats(6, 4), floats(6), activation))


def test_a_head_is_a_linear_layer() -> None:
    head = Head(np.array([[1, 2], [3, 4], [5, 6]], np.float32), np.array([10, 20, 30], np.float32))
    np.testing.assert_array_equal(head.logits(np.array([[1, 1], [2, 0]], np.float32)), [[13, 27, 41], [12, 26, 40]])
    assert (head.feature_size, head.size_bytes) == (2, 36)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_dense_layer_comes_before_as_in_torch(activation: str) -> None:
    head, features = with_dense(activation), floats(5, 4)
    assert head.dense is not None
    arrays = (features, head.dense.weight, head.dense.bias, head.weight, head.bias)
    given, dense_weight, dense_bias, weight, bias = map(torch.from_numpy, arrays)
    wanted = TORCH[activation](given @ dense_weight.T + dense_bias) @ weight.T + bias
    found = head.logits(features)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    np.testing.assert_allclose(head.logits(features[0]), wanted[0], atol=1e-5)
    assert head.feature_size == 4


@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
def test_a_written_head_is_read_again(tmp_path: Path, activation: str | None) -> None:
    head = Head(floats(3, 4), floats(3)) if activation is None else with_dense(activation)
    write_head(tmp_path / "x.npz", head)
    again = read_head(tmp_path / "x.npz", activation)
    np.testing.assert_array_equal(again.logits(np.ones((1, 4), np.float32)), head.logits(np.ones((1, 4), np.float32)))
    assert again.size_bytes == head.size_bytes


def test_a_dense_layer_requires_an_activation(tmp_path: Path) -> None:
    write_head(tmp_path / "dense.npz", with_dense())
    write_head(tmp_path / "linear.npz", Head(floats(3, 4), floats(3)))
    with pytest.raises(ArrayFileError, match=r"exactly \['bias', 'weight'\]"):
        read_head(tmp_path / "dense.npz", None)
    with pytest.raises(ArrayFileError, match=r"exactly \['bias', 'dense_bias', 'dense_weight', 'weight'\]"):
        read_head(tmp_path / "linear.npz", "tanh")


def test_half_a_dense_layer_is_refused(tmp_path: Path) -> None:
    write_npz(tmp_path / "x.npz", {"weight": floats(3, 4), "bias": floats(3), "dense_weight": floats(4, 4)})
    with pytest.raises(ArrayFileError):
        read_head(tmp_path / "x.npz", "tanh")


def test_a_missing_head_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"x\.npz: no such file"):
        read_head(tmp_path / "x.npz", None)


@pytest.mark.parametrize(
    "dense",
    [
        Dense(floats(5, 4), floats(5), "tanh"),
        Dense(floats(6, 4), floats(5), "tanh"),
        Dense(floats(6), floats(6), "tanh"),
        Dense(floats(6, 4), floats(6), "swish"),
    ],
)
def test_a_dense_layer_that_does_not_fit_is_refused(dense: Dense) -> None:
    with pytest.raises(
        HeadError, match=r"expected weight \[num_labels, width\].*one of the activations gelu, relu, tanh"
    ):
        require_head(Head(floats(3, 6), floats(3), dense), (), Path("x.npz"))


@pytest.mark.parametrize("labels", [("a", "b"), ("a", "b", "b")])
def test_labels_that_do_not_fit_are_refused(labels: tuple[str, ...]) -> None:
    with pytest.raises(HeadError, match="2 distinct labels"):
        require_head(Head(floats(3, 6), floats(3)), labels, Path("x.npz"))
