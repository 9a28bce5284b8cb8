"""Read safetensors files as untrusted input, without torch.

The format (https://huggingface.co/docs/safetensors) is eight bytes of header length, a JSON header, and the tensors'
bytes. The library safetensors reads bfloat16 only into the tensors of a framework such as torch, which converting
prompts does not need; and it knows no limits for untrusted input.
"""

from __future__ import annotations

import math
import os
from functools import partial
from pathlib import Path

from edge_prompt.base.errors import AdapterError
from edge_prompt.storage.files import MAX_JSON_BYTES, json_object, open_regular_file
from edge_prompt.untrusted.json_fields import Fields
from edge_prompt_export.adapters.tensors import Tensor, TensorFile, refuse

_METADATA = "__metadata__"
_LENGTH_BYTES = 8
_ITEM_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
"""Bytes per number of each dtype that a prompt may have. Tensors of other dtypes are sized by the file's offsets and
never read."""


def read_safetensors(path: Path) -> TensorFile:
    """Read the header of a safetensors file and check it against the size of the file.

    Raises:
        MissingFileError: The file does not exist.
        ReadError: The file cannot be read.
        AdapterError: The file is malformed, truncated, or longer than its tensors.
    """
    with open_regular_file(path) as stream:
        size_bytes = os.fstat(stream.fileno()).st_size
        header_bytes = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
        data_bytes = size_bytes - _LENGTH_BYTES - header_bytes
        if size_bytes < _LENGTH_BYTES or header_bytes > MAX_JSON_BYTES or data_bytes < 0:
            refuse(
                str(path),
                f"{size_bytes} bytes with a header of {header_bytes}",
                f"a safetensors file with a header of at most {MAX_JSON_BYTES} bytes that ends within the file",
            )
        header = Fields(json_object(stream.read(header_bytes), str(path), AdapterError), str(path), AdapterError)
    start, end, tensors = _LENGTH_BYTES + header_bytes, 0, {}
    for first, last, name in sorted((*_offsets(header, name), name) for name in header.value if name != _METADATA):
        fields = header.inside(name)
        dtype, shape = fields.take("dtype", str), fields.take("shape", list)
        if not all(type(length) is int and 0 <= length < 2**31 for length in shape):
            fields.refuse(f"shape {str(shape)[:80]}", "a list of lengths")
        wanted = math.prod(shape) * _ITEM_BYTES[dtype] if dtype in _ITEM_BYTES else last - first
        if first != end or last - first != wanted:
            fields.refuse(f"bytes {first} to {last}", f"{wanted} bytes from byte {end} on, without gap or overlap")
        end = last
        tensors[name] = Tensor(f"{path}: {name[:80]}", dtype, tuple(shape), partial(_read, path, start + first, wanted))
    if end != data_bytes:
        refuse(str(path), f"{data_bytes} bytes of tensors", f"the {end} bytes that its header describes")
    metadata = header.inside(_METADATA).value if _METADATA in header.value else {}
    return TensorFile(path, tensors, {name: text for name, text in metadata.items() if isinstance(text, str)})


def _offsets(header: Fields, name: str) -> tuple[int, int]:
    offsets = header.inside(name).take("data_offsets", list)
    plain = len(offsets) == 2 and all(type(offset) is int for offset in offsets)
    if not plain or not 0 <= offsets[0] <= offsets[1] < 2**63:
        header.refuse(f"data_offsets {str(offsets)[:80]} of {name[:80]!r}", "its first byte and its end")
    return offsets[0], offsets[1]


def _read(path: Path, start: int, count: int) -> bytes:
    with open_regular_file(path) as stream:
        stream.seek(start)
        content = stream.read(count)
    if len(content) != count:
        refuse(str(path), "a file that shrank while it was read", "a file that does not change", "try again")
    return content
