from __future__ import annotations

import ast
import errno
import hashlib
import io
import os
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_prompt.base.errors import ArrayFileError, EdgePromptError, MissingFileError, ReadError
from edge_prompt.untrusted import npy as arrays
from edge_prompt.untrusted.npy import MAX_HEADER_BYTES, read_hashed_npy, read_npy, read_npz, write_npy, write_npz

NAMES = frozenset({"weight", "bias"})
EXAMPLE = np.arange(6, dtype=np.float32).reshape(2, 3)
FLOATS = {2: np.float16, 4: np.float32}

in_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def npy_bytes(array: np.ndarray[Any, Any], version: tuple[int, int] | None = None) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version)
    return buffer.getvalue()


def with_header(header: str, data: bytes = b"", version: int = 1) -> bytes:
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header.encode() + data


def header_of(shape: str, descr: str = "'<f4'", order: str = "False") -> str:
    return f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}"


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], np.ndarray[Any, Any]]:
    def read(content: bytes) -> np.ndarray[Any, Any]:
        path = tmp_path / "x.npy"
        path.write_bytes(content)
        return read_npy(path)

    return read


Read = Callable[[bytes], np.ndarray[Any, Any]]

shapes = hnp.array_shapes(min_dims=1, max_dims=6, max_side=4)


@in_one_folder
@given(data=st.data(), itemsize=st.sampled_from([2, 4]), shape=shapes, fortran=st.booleans(), big=st.booleans())
def test_a_written_array_is_read_again(
    tmp_path: Path, data: st.DataObject, itemsize: int, shape: tuple[int, ...], *, fortran: bool, big: bool
) -> None:
    finite = st.floats(allow_nan=False, allow_infinity=False, width=16 if itemsize == 2 else 32)
    array = data.draw(hnp.arrays(FLOATS[itemsize], shape, elements=finite))
    given_array = array.astype(array.dtype.newbyteorder(">" if big else "<"), order="F" if fortran else "C")
    write_npy(tmp_path / "x.npy", given_array)
    found = read_npy(tmp_path / "x.npy")
    assert found.dtype == FLOATS[itemsize]
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, array, strict=True)


def test_numpy_reads_a_written_array(tmp_path: Path) -> None:
    write_npy(tmp_path / "x.npy", EXAMPLE.T)
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy", allow_pickle=False), EXAMPLE.T, strict=True)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_npy_version_is_read(read: Read, version: tuple[int, int]) -> None:
    np.testing.assert_array_equal(read(npy_bytes(EXAMPLE, version)), EXAMPLE, strict=True)


@pytest.mark.parametrize(("major", "minor"), [(0, 0), (4, 0), (1, 1), (255, 0)])
def test_an_unknown_npy_version_is_refused(read: Read, major: int, minor: int) -> None:
    content = bytearray(npy_bytes(EXAMPLE))
    content[6:8] = bytes([major, minor])
    with pytest.raises(ArrayFileError, match=rf"NPY version {major}\.{minor}"):
        read(bytes(content))


def test_fortran_order_is_converted(read: Read) -> None:
    content = npy_bytes(np.asfortranarray(EXAMPLE))
    assert b"'fortran_order': True" in content
    found = read(content)
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, EXAMPLE, strict=True)


def test_float64_that_fits_is_narrowed(read: Read) -> None:
    np.testing.assert_array_equal(read(npy_bytes(EXAMPLE.astype(np.float64))), EXAMPLE, strict=True)


def test_float64_beyond_float32_is_refused(read: Read) -> None:
    with pytest.raises(ArrayFileError, match="float64 numbers beyond float32"):
        read(npy_bytes(np.array([1.0, 1e39])))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused(read: Read, dtype: type[np.floating[Any]], number: float) -> None:
    with pytest.raises(ArrayFileError, match="NaN or infinity"):
        read(npy_bytes(np.array([0, number], dtype)))


@pytest.mark.parametrize(
    "array",
    [
        EXAMPLE.astype(">f4"),
        EXAMPLE.astype(">f2"),
        EXAMPLE.astype(np.int64),
        EXAMPLE.astype(np.uint8),
        EXAMPLE.astype(bool),
        EXAMPLE.astype(np.complex64),
        EXAMPLE.astype(np.longdouble),
        EXAMPLE.astype("S4"),
        EXAMPLE.astype("U4"),
        np.zeros(3, "<M8[D]"),
        np.zeros((2, 3), "V2"),
        np.zeros(3, [("x", "<f4")]),
        np.zeros(3, [("x", "<f4"), ("y", "O")]),
    ],
    ids=lambda array: str(array.dtype),
)
@pytest.mark.filterwarnings("ignore:.*metadata.*:UserWarning")
def test_every_other_dtype_is_refused(read: Read, array: np.ndarray[Any, Any]) -> None:
    with pytest.raises(ArrayFileError, match=r"dtype .*expected little-endian float32 or float16"):
        read(npy_bytes(array))


def test_bfloat16_is_refused_as_void(read: Read) -> None:
    with pytest.raises(ArrayFileError, match=r"dtype \|V2"):
        read(npy_bytes(np.zeros((2, 3), "V2")))


def test_pickled_objects_are_refused_and_never_run(read: Read, tmp_path: Path) -> None:
    trace = tmp_path / "executed"

    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (trace,)

    with pytest.raises(ArrayFileError, match="pickled objects"):
        read(npy_bytes(np.array([Bomb()], dtype=object)))
    with pytest.raises(ArrayFileError, match="not an NPY file"):
        read(pickle.dumps(Bomb()))
    assert not trace.exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"x\.npy: no such file"):
        read_npy(tmp_path / "x.npy")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="not a regular file"):
        read_npy(tmp_path)


def test_a_file_that_the_system_fails_to_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_npy(tmp_path / "x.npy", EXAMPLE)

    def denied(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    for module, function in ((os, "open"), (os, "read")):
        with monkeypatch.context() as patched:
            patched.setattr(module, function, denied)
            with pytest.raises(ReadError, match=r"x\.npy cannot be read \(Permission denied\)"):
                read_npy(tmp_path / "x.npy")


@pytest.mark.parametrize("content", [b"", b"\x93NUM", b"PK\x03\x04 a zip archive", b"a text", b"\x93NUMPX\x01\x00\x00"])
def test_what_is_no_npy_file_is_refused(read: Read, content: bytes) -> None:
    with pytest.raises(ArrayFileError, match="not an NPY file"):
        read(content)


@pytest.mark.parametrize("array", [EXAMPLE, EXAMPLE.astype(np.float16), np.asfortranarray(EXAMPLE)], ids=str)
def test_a_file_truncated_at_any_byte_is_refused(read: Read, array: np.ndarray[Any, Any]) -> None:
    content = npy_bytes(array)
    for length in range(len(content)):
        with pytest.raises(ArrayFileError):
            read(content[:length])


@pytest.mark.parametrize("surplus", [1, 4, 4096])
def test_trailing_bytes_are_refused(read: Read, surplus: int) -> None:
    with pytest.raises(ArrayFileError, match=f"{24 + surplus} bytes of data; expected the 24"):
        read(npy_bytes(EXAMPLE) + bytes(surplus))


@pytest.mark.parametrize("shape", ["(1000000, 1000000)", "(274877906944,)", "(2147483647, 2147483647, 2147483647)"])
def test_a_header_that_claims_a_terabyte_takes_no_memory(read: Read, shape: str) -> None:
    content = with_header(header_of(shape), bytes(64))
    tracemalloc.start()
    try:
        with pytest.raises(ArrayFileError, match=r"64 bytes of data|shape"):
            read(content)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("claimed", [MAX_HEADER_BYTES + 1, 2**31, 2**32 - 1])
def test_a_huge_header_length_takes_no_memory(read: Read, claimed: int) -> None:
    content = b"\x93NUMPY\x02\x00" + struct.pack("<I", claimed) + bytes(20_000)
    tracemalloc.start()
    try:
        with pytest.raises(ArrayFileError, match=f"a header of {claimed} bytes"):
            read(content)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "shape",
    ["()", "(-1, 3)", "(2, -3)", "(0, 3)", "(True,)", "(1.0,)", "('2',)", "(1, 1, 1, 1, 1, 1, 1)", f"(0, {2**70})"],
)
def test_a_shape_that_no_prompt_has_is_refused(read: Read, shape: str) -> None:
    with pytest.raises(ArrayFileError, match="expected 1 to 6 dimensions"):
        read(with_header(header_of(shape), bytes(4)))


def test_a_product_of_astronomic_lengths_is_refused(read: Read) -> None:
    huge = "1" + "0" * 4000
    with pytest.raises(ArrayFileError, match="expected 1 to 6 dimensions"):
        read(with_header(header_of(f"({huge}, {huge})")))


@pytest.mark.parametrize(
    "header",
    [
        "",
        "{",
        "[]",
        "1",
        "{}",
        "{[]: 1}",
        "{'descr': '<f4', 'shape': (1,)}",
        header_of("(1,)").replace("}", ", 'more': 1}"),
        header_of("[1]"),
        header_of("1"),
        header_of("(1,)", order="0"),
        header_of("(1L,)"),
        header_of("(1,)", descr="__import__('os').getpid()"),
        header_of("(" + "9" * 5000 + ",)"),
        "(" * 5000,
        "-" * 9000 + "1",
        "\0",
    ],
)
def test_a_malformed_header_is_refused(read: Read, header: str) -> None:
    with pytest.raises(ArrayFileError, match="a malformed NPY header"):
        read(with_header(header, bytes(4)))


@pytest.mark.parametrize("descr", ["()", "[]", "[[]]", "None", "{'a': 1}", "'f4,f4'", "('<f4', (2,))", "''", "'\\x00'"])
def test_a_dtype_that_is_no_plain_name_is_refused(read: Read, descr: str) -> None:
    with pytest.raises(ArrayFileError, match="expected little-endian float32 or float16"):
        read(with_header(header_of("(1,)", descr), bytes(4)))


@in_one_folder
@given(content=st.binary(max_size=300), whole_magic=st.booleans())
def test_arbitrary_bytes_raise_nothing_but_our_errors(tmp_path: Path, content: bytes, *, whole_magic: bool) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" * whole_magic + content)
    with pytest.raises(ArrayFileError):
        read_npy(path)


@in_one_folder
@given(header=st.text(st.characters(codec="ascii"), max_size=80), data=st.binary(max_size=16))
def test_arbitrary_headers_raise_nothing_but_our_errors(tmp_path: Path, header: str, data: bytes) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(with_header(header, data))
    with pytest.raises(ArrayFileError):
        read_npy(path)


@st.composite
def mutated(draw: st.DrawFn, content: bytes) -> bytes:
    start = draw(st.integers(0, len(content)))
    end = draw(st.integers(start, min(len(content), start + 8)))
    return content[:start] + draw(st.binary(max_size=8)) + content[end:]


@in_one_folder
@given(content=mutated(npy_bytes(EXAMPLE)))
def test_a_mutated_file_is_finite_numbers_or_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(content)
    try:
        found = read_npy(path)
    except EdgePromptError:
        return
    assert found.dtype in {np.dtype(np.float32), np.dtype(np.float16)}
    assert np.isfinite(found).all()


def npz_bytes(folder: Path) -> bytes:
    write_npz(folder / "valid.npz", {"weight": EXAMPLE, "bias": EXAMPLE[:, 0]})
    return (folder / "valid.npz").read_bytes()


def test_npz_arrays_are_read_again(tmp_path: Path) -> None:
    write_npz(tmp_path / "x.npz", {"weight": EXAMPLE.astype(">f4"), "bias": EXAMPLE[0].astype(np.float16)})
    arrays = read_npz(tmp_path / "x.npz", NAMES)
    assert arrays.keys() == NAMES
    np.testing.assert_array_equal(arrays["weight"], EXAMPLE, strict=True)
    np.testing.assert_array_equal(arrays["bias"], EXAMPLE[0].astype(np.float16), strict=True)


def test_an_npz_of_numpy_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", weight=EXAMPLE, bias=EXAMPLE[0])
    np.testing.assert_array_equal(read_npz(tmp_path / "x.npz", NAMES)["weight"], EXAMPLE, strict=True)


def test_the_bytes_of_an_npz_depend_on_its_arrays_alone(tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", {"weight": EXAMPLE, "bias": EXAMPLE[0]})
    write_npz(tmp_path / "b.npz", {"bias": EXAMPLE[0], "weight": EXAMPLE})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_compressed_npz_is_refused(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", weight=np.zeros((100, 100), np.float32), bias=EXAMPLE[0])
    with pytest.raises(ArrayFileError, match="a compressed member"):
        read_npz(tmp_path / "x.npz", NAMES)


def test_a_member_that_claims_more_than_the_file_has_is_refused(tmp_path: Path) -> None:
    content = npz_bytes(tmp_path)
    size = struct.pack("<I", len(npy_bytes(EXAMPLE)))
    assert content.count(size) >= 4
    (tmp_path / "x.npz").write_bytes(content.replace(size, struct.pack("<I", 1 << 30)))
    tracemalloc.start()
    try:
        with pytest.raises(ArrayFileError):
            read_npz(tmp_path / "x.npz", NAMES)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("names", [(), ("weight",), ("weight", "bias", "more"), ("weight", "Bias")])
def test_an_npz_of_other_members_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    write_npz(tmp_path / "x.npz", dict.fromkeys(names, EXAMPLE))
    with pytest.raises(ArrayFileError, match=r"expected exactly \['bias', 'weight'\]"):
        read_npz(tmp_path / "x.npz", NAMES)


def test_an_npz_with_a_member_twice_is_refused(tmp_path: Path) -> None:
    content = npy_bytes(EXAMPLE)
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("weight.npy", content)
        archive.writestr("bias.npy", content)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("bias.npy", content)
    with pytest.raises(ArrayFileError, match="expected exactly"):
        read_npz(tmp_path / "x.npz", NAMES)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04", b"PK\x05\x06" + bytes(17)])
def test_what_is_no_zip_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(ArrayFileError, match="not a readable zip archive"):
        read_npz(tmp_path / "x.npz", NAMES)


def test_a_bad_array_in_an_npz_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", weight=EXAMPLE, bias=np.array([np.nan]))
    with pytest.raises(ArrayFileError, match=r"x\.npz\[bias\]: NaN or infinity"):
        read_npz(tmp_path / "x.npz", NAMES)


def test_a_missing_npz_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"x\.npz: no such file"):
        read_npz(tmp_path / "x.npz", NAMES)


@settings(in_one_folder, max_examples=300)
@given(data=st.data())
def test_a_mutated_npz_is_finite_numbers_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    (tmp_path / "x.npz").write_bytes(data.draw(mutated(npz_bytes(tmp_path))))
    try:
        arrays = read_npz(tmp_path / "x.npz", NAMES)
    except EdgePromptError:
        return
    assert arrays.keys() == NAMES
    assert all(np.isfinite(array).all() for array in arrays.values())


def test_an_npz_truncated_at_any_byte_is_refused(tmp_path: Path) -> None:
    content = npz_bytes(tmp_path)
    for length in range(len(content)):
        (tmp_path / "x.npz").write_bytes(content[:length])
        with pytest.raises(ArrayFileError):
            read_npz(tmp_path / "x.npz", NAMES)


def test_a_member_whose_name_is_no_utf8_is_refused(tmp_path: Path) -> None:
    content = npz_bytes(tmp_path).replace(b"weight.npy", b"weight.n\xday")
    central = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 1)
    flagged = content[: central + 9] + b"\x08" + content[central + 10 :]  # bit 11: the name is UTF-8
    (tmp_path / "x.npz").write_bytes(flagged)
    with pytest.raises(ArrayFileError, match="not a readable zip archive"):
        read_npz(tmp_path / "x.npz", NAMES)


HEADERS = st.builds(
    "{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}{end}".format,
    descr=st.sampled_from(["'<f4'", "'<f2'", "'>f4'", "'|O'", "'f4'", "''", '"<f4"', "'<f4 '"]),
    order=st.sampled_from(["True", "False", "1", "true"]),
    shape=st.one_of(
        st.lists(st.integers(0, 2**34), max_size=4).map(lambda lengths: str(tuple(lengths))),
        st.text("0123456789, ()-_e", max_size=12).map(lambda inside: f"({inside})"),
    ),
    end=st.text(" \n", max_size=4),
)


@settings(max_examples=300)
@given(header=HEADERS)
def test_numpys_headers_are_parsed_as_python_would(header: str) -> None:
    """Such headers are read without parsing Python, which must make no difference."""
    written = arrays._WRITTEN_HEADER.fullmatch(header.encode())
    if written is None:
        return
    fields = ast.literal_eval(header)
    assert arrays._parse_header(header.encode(), "x") == (fields["descr"], fields["fortran_order"], fields["shape"])
    assert isinstance(fields["shape"], tuple)


def test_numpys_files_are_read_without_parsing_python(tmp_path: Path) -> None:
    for shape in ((3,), (2, 3), (1, 2, 3, 4, 5, 6)):
        header = npy_bytes(np.zeros(shape, np.float32))[10:].partition(b"\n")[0]
        assert arrays._WRITTEN_HEADER.fullmatch(header + b"\n")


def test_large_and_small_files_are_read_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.npy"
    write_npy(path, EXAMPLE)
    small = read_hashed_npy(path)
    monkeypatch.setattr(arrays, "SMALL_BYTES", 10)
    large = read_hashed_npy(path)
    assert (small[0] == large[0]).all()
    assert small[1] == large[1] == hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(arrays, "SMALL_BYTES", path.stat().st_size)
    assert read_hashed_npy(path)[1] == small[1]
