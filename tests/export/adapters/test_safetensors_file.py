from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from edge_prompt.base.errors import AdapterError, EdgePromptError, MissingFileError
from edge_prompt_export.adapters.safetensors_file import read_safetensors

ONE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def write(path: Path, header: Any, data: bytes = bytes(8), length: int | None = None) -> Path:
    content = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(content) if length is None else length).to_bytes(8, "little") + content + data)
    return path


def test_what_safetensors_wrote_is_read(tmp_path: Path) -> None:
    tensors: dict[str, Any] = {
        "a": np.arange(6, dtype=np.float32).reshape(2, 3),
        "b": np.arange(4, dtype=np.float16),
        "c": np.arange(3, dtype=np.float64),
        "empty": np.zeros((0, 4), np.float32),
        "ids": np.arange(5),
    }
    save_file(tensors, tmp_path / "x.safetensors", metadata={"format": "pt"})
    file = read_safetensors(tmp_path / "x.safetensors")
    assert file.metadata == {"format": "pt"}
    assert {name: tensor.shape for name, tensor in file.tensors.items()} == {
        name: array.shape for name, array in tensors.items()
    }
    for name in ("a", "b", "c", "empty"):
        np.testing.assert_array_equal(file.tensors[name].array(), tensors[name])
    assert [file.tensors[name].array().dtype for name in "abc"] == [np.float32, np.float16, np.float32]
    with pytest.raises(AdapterError, match="ids: dtype I64; expected one of F64, F32, F16, BF16"):
        file.tensors["ids"].array()


def test_bfloat16_is_widened(tmp_path: Path) -> None:
    tensor = torch.tensor([1.5, -3e38, 1e-30, 0.0]).bfloat16()
    save_torch({"a": tensor}, tmp_path / "x.safetensors")
    found = read_safetensors(tmp_path / "x.safetensors").tensors["a"].array()
    np.testing.assert_array_equal(found, tensor.float().numpy(), strict=True)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(tmp_path: Path, value: float) -> None:
    save_torch({"a": torch.tensor([value]).bfloat16()}, tmp_path / "x.safetensors")
    with pytest.raises(AdapterError, match="a: NaN or infinity"):
        read_safetensors(tmp_path / "x.safetensors").tensors["a"].array()


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ({"a": ONE, "b": ONE}, "b: bytes 0 to 8"),
        ({"a": {**ONE, "data_offsets": [0, 4]}}, "bytes 0 to 4; expected 8 bytes from byte 0 on"),
        ({"a": {**ONE, "data_offsets": [4, 12]}}, "bytes 4 to 12"),
        ({"a": {**ONE, "data_offsets": [0, 80], "shape": [20]}}, "8 bytes of tensors; expected the 80"),
        ({"a": {**ONE, "data_offsets": [0, 2**70]}}, "data_offsets"),
        ({"a": {**ONE, "data_offsets": [8, 0], "dtype": "F4"}}, "data_offsets"),
        ({"a": {**ONE, "data_offsets": [0]}}, "data_offsets"),
        ({"a": {**ONE, "data_offsets": [0, "8"]}}, "data_offsets"),
        ({"a": {**ONE, "shape": [-2]}}, "shape [-2]"),
        ({"a": {**ONE, "shape": [2**31, 2**31]}}, "shape"),
        ({"a": {**ONE, "shape": [1.5]}}, "shape [1.5]"),
        ({"a": {**ONE, "shape": [True]}}, "shape [True]"),
        ({"a": {"dtype": "F32", "shape": [2]}}, "no field 'data_offsets'"),
        ({"a": [1]}, "'a' is list"),
        ({"__metadata__": 3, "a": ONE}, "'__metadata__' is int"),
        ({}, "8 bytes of tensors; expected the 0"),
        (b"[]", "a JSON list"),
        (b'{"a": 1, "a": 2}', "occurs twice"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
    ],
)
def test_a_header_that_does_not_fit_is_refused(tmp_path: Path, header: Any, found: str) -> None:
    with pytest.raises(AdapterError) as caught:
        read_safetensors(write(tmp_path / "x.safetensors", header))
    assert found in str(caught.value)


@pytest.mark.parametrize("length", [2**63, 2**40, 10_000_000, 500])
def test_a_length_beyond_the_file_is_refused_before_it_is_read(tmp_path: Path, length: int) -> None:
    with pytest.raises(AdapterError, match=f"with a header of {length}"):
        read_safetensors(write(tmp_path / "x.safetensors", {"a": ONE}, length=length))


@pytest.mark.parametrize("content", [b"", b"\x00" * 7, b"\x00" * 8])
def test_a_file_of_nothing_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(AdapterError):
        read_safetensors(tmp_path / "x.safetensors")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        read_safetensors(tmp_path / "x.safetensors")


def test_a_file_that_shrinks_after_its_header_was_read_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.safetensors", {"a": ONE})
    tensor = read_safetensors(path).tensors["a"]
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(AdapterError, match="shrank"):
        tensor.array()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=300)
@given(position=st.integers(0, 120), byte=st.integers(0, 255), cut=st.integers(0, 120))
def test_a_damaged_file_is_read_or_refused_in_one_sentence(tmp_path: Path, position: int, byte: int, cut: int) -> None:
    path = write(tmp_path / "x.safetensors", {"a": ONE, "b": {**ONE, "data_offsets": [8, 16]}}, bytes(range(16)))
    content = bytearray(path.read_bytes())
    content[position % len(content)] = byte
    path.write_bytes(content[: len(content) - cut] if byte % 2 else content)
    refusal = ""
    try:
        for tensor in read_safetensors(path).tensors.values():
            tensor.array()
    except EdgePromptError as error:
        refusal = str(error)
    assert "\n" not in refusal
