from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from edge_prompt.base.errors import AdapterError, MissingFileError
from edge_prompt_export.adapters.torch_file import read_bin


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "adapter_model.bin"


@pytest.mark.parametrize("new", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_what_torch_saved_is_read(path: Path, dtype: torch.dtype, new: bool) -> None:
    tensor = torch.arange(12).reshape(3, 4).to(dtype)
    torch.save(OrderedDict(a=tensor, b=tensor.T), path, _use_new_zipfile_serialization=new)
    file = read_bin(path)
    np.testing.assert_array_equal(file.tensors["a"].array(), tensor.float().numpy())
    np.testing.assert_array_equal(file.tensors["b"].array(), tensor.T.float().numpy())
    assert file.metadata == {}


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("this must not be run",)


@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: {"prompt_embeddings": value}])
def test_a_pickle_of_more_than_weights_is_refused_and_not_run(
    path: Path, wrap: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(wrap(Harmful()), path)
    with pytest.raises(AdapterError, match="a pickle that contains more than weights") as caught:
        read_bin(path)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""


def test_a_bare_pickle_is_refused(path: Path) -> None:
    path.write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(AdapterError):
        read_bin(path)


@pytest.mark.parametrize("value", [[1, 2], {"a": 3}, {3: torch.ones(2)}, torch.ones(2)])
def test_other_things_than_tensors_by_name_are_refused(path: Path, value: Any) -> None:
    torch.save(value, path)
    with pytest.raises(AdapterError, match="that does not map names to tensors; expected tensors by name"):
        read_bin(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"nonsense" * 99])
def test_a_damaged_file_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(AdapterError):
        read_bin(path)


def test_a_truncated_file_is_refused(path: Path) -> None:
    torch.save({"a": torch.ones(100)}, path)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(AdapterError):
        read_bin(path)


def test_compressed_members_are_refused(path: Path, tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(100_000)}, tmp_path / "plain.bin")
    with zipfile.ZipFile(tmp_path / "plain.bin") as plain, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    with pytest.raises(AdapterError, match="compressed members"):
        read_bin(path)


def test_a_tensor_larger_than_its_file_is_refused(path: Path) -> None:
    torch.save({"a": torch.ones(1).expand(10_000_000)}, path)
    with pytest.raises(AdapterError, match=r"a: shape .* expected no more than"):
        read_bin(path)


def test_a_sparse_tensor_is_refused(path: Path) -> None:
    torch.save({"a": torch.eye(3).to_sparse()}, path)
    with pytest.raises(AdapterError):
        read_bin(path)


def test_integers_are_refused_when_asked_for(path: Path) -> None:
    torch.save({"a": torch.ones(3, dtype=torch.long)}, path)
    with pytest.raises(AdapterError, match=r"a: dtype torch\.int64"):
        read_bin(path).tensors["a"].array()


def test_a_missing_file_is_named(path: Path) -> None:
    with pytest.raises(MissingFileError):
        read_bin(path)
