"""Read torch's own `.bin` files, which PEFT wrote before safetensors; only weights are loaded."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from edge_prompt.base.errors import AdapterError
from edge_prompt.storage.files import require_file
from edge_prompt_export.adapters.tensors import Tensor, TensorFile, refuse

_NAMES: Mapping[str, str] = {
    "torch.float64": "F64",
    "torch.float32": "F32",
    "torch.float16": "F16",
    "torch.bfloat16": "BF16",
}
"""The dtypes that a prompt may have: torch's name and that of safetensors."""


def read_bin(path: Path) -> TensorFile:
    """Read a file in torch's own format, as older versions of PEFT wrote it; no code in the file is run.

    Raises:
        MissingFileError: The file does not exist.
        AdapterError: The file is malformed, or pickles more than weights.
    """
    import torch  # noqa: PLC0415 - the only format that needs it

    size_bytes = require_file(path).stat().st_size
    state = _loaded(path)
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        refuse(str(path), f"a {type(state).__name__} that does not map names to tensors", "tensors by name")
    return TensorFile(path, {name: _of_torch(path, name, value, size_bytes) for name, value in state.items()}, {})


def _loaded(path: Path) -> Any:
    import torch  # noqa: PLC0415 - as above

    try:
        _require_stored(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except AdapterError:
        raise
    except pickle.UnpicklingError as error:
        raise AdapterError(
            found=f"{path}: a pickle that contains more than weights ({' '.join(str(error).split())[:120]})",
            wanted="tensors by name",
            remedy="do not unpickle it, but ask its author for adapter_model.safetensors",
        ) from error
    except Exception as error:  # torch raises many classes for a file that is not its own
        raise AdapterError(
            found=f"{path}: not a file of weights ({' '.join(str(error).split())[:120]})",
            wanted="a file that torch.save wrote",
            remedy="restore the file, or save the adapter again",
        ) from error


def _require_stored(path: Path) -> None:
    """Refuse an archive with compressed members, which could expand to more memory than any file of weights."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                refuse(str(path), "compressed members", "members stored as torch.save stores them")


def _of_torch(path: Path, name: str, value: Any, size_bytes: int) -> Tensor:
    where, dtype = f"{path}: {name[:80]}", str(value.dtype)
    if str(value.layout) != "torch.strided" or value.device.type != "cpu":
        refuse(where, f"a tensor of layout {value.layout} on {value.device}", "a strided tensor on the CPU")
    if value.numel() * value.element_size() > size_bytes:  # with its strides, a tensor can repeat its own bytes
        refuse(where, f"shape {list(value.shape)}", f"no more than the {size_bytes} bytes of the file")
    return Tensor(where, _NAMES.get(dtype, dtype), tuple(value.shape), partial(_bytes_of, value))


def _bytes_of(tensor: Any) -> bytes:
    import torch  # noqa: PLC0415 - as above

    content: bytes = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return content
