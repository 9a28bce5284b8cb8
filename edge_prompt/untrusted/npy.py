"""Reading and writing NPY and NPZ files. Reading never allocates memory based on an unchecked header.

NPY is numpy's format (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html). The page
`docs/reference/formats.md` describes which contents are allowed. Not `numpy.load`, because it allocates what a header
claims before it looks at the length of the file.
"""

from __future__ import annotations

import ast
import hashlib
import io
import math
import os
import re
import struct
import zipfile
from io import BufferedReader
from pathlib import Path
from typing import IO, BinaryIO, NoReturn

import numpy as np
from numpy.typing import NDArray

from edge_prompt.base.errors import ArrayFileError
from edge_prompt.storage.files import open_regular_file, read_start, written_atomically

MAX_RANK = 6
"""The highest rank of a graph input: a prefix with its batch dimension."""

MAX_HEADER_BYTES = 10_000
"""numpy's own limit. numpy enforces it only after reading the header, so the length field is checked here first."""

SMALL_BYTES = 1 << 20
"""Files up to this size are read in one call, which is much faster than reading them in parts."""

_MAGIC = b"\x93NUMPY"
_LENGTH_FIELD_BYTES = {1: 2, 2: 4, 3: 4}
_FIELDS = {"descr", "fortran_order", "shape"}
_LENGTH = rb"(?:0|[1-9][0-9]{0,9})"
_WRITTEN_HEADER = re.compile(
    rb"\{'descr': '([<>|=]?[A-Za-z0-9]{1,8})', 'fortran_order': (True|False), "
    rb"'shape': \((%s,|%s(?:, %s)+)\), \} *\n?" % (_LENGTH, _LENGTH, _LENGTH)
)
"""A header as numpy.save writes it, which is read without parsing Python. Any other header is parsed as Python."""

_DTYPES = {"<f4": np.float32, "<f2": np.float16, "<f8": np.float32}
"""The dtypes that may be read and their results. float64 is converted to float32 if every number is in range."""

FloatArray = NDArray[np.float32] | NDArray[np.float16]


def read_npy(path: Path) -> FloatArray:
    """Read an `.npy` file of floats, C-ordered.

    Returns:
        A float32 or float16 array; float64 is converted to float32.

    Raises:
        MissingFileError: There is no such file.
        ReadError: It cannot be read.
        ArrayFileError: It is malformed, truncated, too long, or has contents that are not allowed.
    """
    return read_hashed_npy(path)[0]


def read_hashed_npy(path: Path) -> tuple[FloatArray, str]:
    """Like `read_npy`, but also return the SHA-256 of the bytes that were read, even if the file is replaced later."""
    content, size_bytes = read_start(path, SMALL_BYTES)
    if size_bytes == len(content):
        return _read_stream(io.BytesIO(content), size_bytes, str(path)), hashlib.sha256(content).hexdigest()
    with open_regular_file(path) as stream:  # too large to read before its header has been checked
        array = _read_stream(stream, os.fstat(stream.fileno()).st_size, str(path))
        return array, _digest(stream)


def write_npy(path: Path, array: FloatArray) -> None:
    """Write `array` atomically as NPY: C order, little-endian, no pickle.

    Raises:
        ArrayFileError: `read_npy` would not accept the array.
        WriteError: The file cannot be written.
    """
    require_writable(path, array)
    with written_atomically(path) as stream:
        write_npy_to(stream, array)


def write_npy_to(stream: BinaryIO, array: FloatArray) -> None:
    """Write `array`, which `require_writable` accepts, to a stream; see `write_npy`."""
    np.save(stream, np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")), allow_pickle=False)


def read_npz(path: Path, names: frozenset[str]) -> dict[str, FloatArray]:
    """Read exactly the arrays `names` from an `.npz` file whose members are stored uncompressed.

    Raises:
        MissingFileError: There is no such file.
        ArrayFileError: It is malformed, compressed (and could be a zip bomb), or contains other arrays than `names`.
    """
    return read_hashed_npz(path, names)[0]


def read_hashed_npz(path: Path, names: frozenset[str]) -> tuple[dict[str, FloatArray], str]:
    """Like `read_npz`, but also return the SHA-256 of the file that was read, even if the file is replaced later."""
    with open_regular_file(path) as stream:
        return _read_archive(stream, path, names), _digest(stream)


def write_npz(path: Path, arrays: dict[str, FloatArray]) -> None:
    """Write `arrays` atomically as an uncompressed `.npz` whose bytes depend on the arrays alone."""
    with written_atomically(path) as stream:
        write_npz_to(stream, arrays)


def write_npz_to(stream: BinaryIO, arrays: dict[str, FloatArray]) -> None:
    """Write `arrays` to a stream; see `write_npz`."""
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            buffer = io.BytesIO()
            write_npy_to(buffer, arrays[name])
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), buffer.getvalue())


def _digest(stream: BufferedReader) -> str:
    stream.seek(0)
    return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_archive(stream: BufferedReader, path: Path, names: frozenset[str]) -> dict[str, FloatArray]:
    size_bytes = os.fstat(stream.fileno()).st_size
    try:
        with zipfile.ZipFile(stream) as archive:
            members = {member.filename: member for member in archive.infolist()}
            if sorted(members) != sorted(f"{name}.npy" for name in names) or len(archive.infolist()) != len(names):
                _refuse_array(str(path), f"members {sorted(members)[:8]}", f"exactly {sorted(names)}")
            arrays = {}
            for name in sorted(names):
                member = members[f"{name}.npy"]
                if member.compress_type != zipfile.ZIP_STORED or member.file_size > size_bytes:
                    _refuse_array(f"{path}[{name}]", "a compressed member", "uncompressed members (numpy.savez)")
                with archive.open(member) as opened_member:
                    arrays[name] = _read_stream(opened_member, member.file_size, f"{path}[{name}]")
            return arrays
    except ArrayFileError:
        raise
    except (
        zipfile.BadZipFile,
        RuntimeError,
        EOFError,
        OSError,
        ValueError,
        struct.error,
    ) as error:  # zipfile raises all of these
        _refuse_array(str(path), f"not a readable zip archive ({error})", "an .npz file", error)


def require_writable(path: Path, array: FloatArray) -> None:
    """Check that `read_npy` would accept the array for `path`.

    Raises:
        ArrayFileError: It is not of 1 to 6 dimensions of finite float32 or float16 numbers, or is empty.
    """
    if (array.dtype.kind, array.dtype.itemsize) not in {("f", 4), ("f", 2)} or not 1 <= array.ndim <= MAX_RANK:
        _refuse_array(str(path), f"{array.ndim} dimensions of {array.dtype}", "float32 or float16, 1 to 6 dimensions")
    if 0 in array.shape or not np.isfinite(array).all():
        _refuse_array(
            str(path),
            "the array is empty or contains NaN or infinity",
            "finite numbers",
            remedy="tune the prompt again with a lower learning rate",
        )


def _read_stream(stream: IO[bytes], size_bytes: int, name: str) -> FloatArray:
    descr, shape, fortran_order, data_bytes = _read_header(stream, size_bytes, name)
    dtype, count = np.dtype(descr), math.prod(shape)
    if count * dtype.itemsize != data_bytes:
        _refuse_array(name, f"{data_bytes} bytes of data", f"the {count * dtype.itemsize} that its shape {shape} needs")
    array = np.frombuffer(_read_exactly(stream, data_bytes, name), dtype=dtype)
    if not np.isfinite(array).all():
        _refuse_array(name, "NaN or infinity", "finite numbers")
    if _DTYPES[descr] != dtype:
        with np.errstate(over="ignore"):
            array = array.astype(_DTYPES[descr])
        if not np.isfinite(array).all():
            _refuse_array(name, "float64 numbers beyond float32", "numbers that float32 can hold")
    return np.ascontiguousarray(array.reshape(shape, order="F" if fortran_order else "C"))


def _read_header(stream: IO[bytes], size_bytes: int, name: str) -> tuple[str, tuple[int, ...], bool, int]:
    """Return the dtype, shape, order and number of data bytes, each checked before it is used."""
    start = stream.read(8)
    if len(start) < 8 or start[:6] != _MAGIC:
        _refuse_array(name, "not an NPY file", "a file written by numpy.save")
    length_field_bytes = _LENGTH_FIELD_BYTES.get(start[6])
    if length_field_bytes is None or start[7] != 0:
        _refuse_array(name, f"NPY version {start[6]}.{start[7]}", "NPY 1.0, 2.0 or 3.0")
    header_bytes = int.from_bytes(_read_exactly(stream, length_field_bytes, name), "little")
    data_bytes = size_bytes - 8 - length_field_bytes - header_bytes
    if header_bytes > MAX_HEADER_BYTES or data_bytes < 0:
        _refuse_array(
            name, f"a header of {header_bytes} bytes", f"at most {MAX_HEADER_BYTES}, and no more than the file has"
        )
    descr, fortran_order, shape = _parse_header(_read_exactly(stream, header_bytes, name), name)
    if not isinstance(descr, str) or descr not in _DTYPES:
        kind = "pickled objects" if descr == "|O" else f"dtype {str(descr)[:80]}"
        _refuse_array(
            name, kind, "little-endian float32 or float16 (<f4, <f2)", remedy="convert it with array.astype('<f4')"
        )
    lengths = tuple(length for length in shape if type(length) is int and 0 < length < 2**31)
    if not 1 <= len(shape) <= MAX_RANK or len(lengths) < len(shape):
        _refuse_array(name, f"shape {str(shape)[:80]}", f"1 to {MAX_RANK} dimensions, each of at least 1")
    return descr, lengths, fortran_order, data_bytes


def _parse_header(header: bytes, name: str) -> tuple[object, bool, tuple[object, ...]]:
    """Return the three fields of a header. numpy's own reader warns, and fails in more ways."""
    written = _WRITTEN_HEADER.fullmatch(header)
    if written is not None:
        descr, fortran_order, lengths = written.groups()
        return descr.decode("latin1"), fortran_order == b"True", tuple(map(int, lengths.rstrip(b",").split(b", ")))
    try:
        fields = ast.literal_eval(header.decode("latin1"))
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        _refuse_array(name, "a malformed NPY header", "a file written by numpy.save", error)
    if not isinstance(fields, dict) or fields.keys() != _FIELDS:
        _refuse_array(name, "a malformed NPY header", "a file written by numpy.save")
    if type(fields["fortran_order"]) is not bool or not isinstance(fields["shape"], tuple):
        _refuse_array(name, "a malformed NPY header", "a file written by numpy.save")
    return fields["descr"], fields["fortran_order"], fields["shape"]


def _read_exactly(stream: IO[bytes], count: int, name: str) -> bytes:
    content = stream.read(count)
    if len(content) != count:
        _refuse_array(name, "a truncated file", "a complete NPY file")
    return content


def _refuse_array(
    name: str, found: str, wanted: str, cause: BaseException | None = None, remedy: str = "write the file again"
) -> NoReturn:
    raise ArrayFileError(found=f"{name}: {found}", wanted=wanted, remedy=remedy) from cause
